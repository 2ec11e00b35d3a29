//! What the programs send: new stacks, trace lines, forks and execs.

use std::os::fd::{AsRawFd, RawFd};

use aya::maps::{MapData, RingBuf};
use memtrace_common::{
    EventKind, ExecEvent, ForkEvent, KERNEL_FRAMES, KernelStackEvent, MAX_FRAMES, MappingEvent, MissEvent,
    Op, OracleEvent, StackEvent, Target, ThreadEvent, TraceEvent, VictimEvent, WalkEnd,
};

/// One event from the kernel side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BpfEvent {
    /// A stack was seen for the first time.
    Stack {
        /// Its slot.
        slot: u32,
        /// Its identity.
        hash: u64,
        /// Its target and generation, see [`Target::id`].
        target: u32,
        /// Why the walk ended.
        end: WalkEnd,
        /// The value of [`crate::bpf::Tracer::unloaded`] at the walk.
        unloaded: u64,
        /// Return addresses, innermost first.
        pcs: Vec<u64>,
    },
    /// A stack of the kernel was seen for the first time.
    KernelStack {
        /// Its slot.
        slot: u32,
        /// The number of innermost frames that belong to the tracing and the allocator.
        own: u32,
        /// Return addresses, innermost first.
        pcs: Vec<u64>,
    },
    /// A walk with the stack memory that it read (tests).
    Oracle {
        /// The stack's slot.
        slot: u32,
        /// Why the walk ended.
        end: WalkEnd,
        /// Return addresses, innermost first.
        pcs: Vec<u64>,
        /// Where the return address was.
        sp: u64,
        /// The frame pointer.
        fp: u64,
        /// Address of the first byte of `stack`.
        base: u64,
        /// The stack, from the page of `sp` upwards, as far as it was read.
        stack: Vec<u8>,
    },
    /// One allocation or free (`--trace`).
    Trace {
        /// Whether it is a free.
        freed: bool,
        /// Time in ns of `CLOCK_MONOTONIC`.
        time: u64,
        /// The process.
        pid: u32,
        /// The thread.
        tid: u32,
        /// The block's address.
        address: u64,
        /// Its size in bytes.
        size: u64,
        /// Slot of the allocating stack.
        slot: u32,
        /// Target and generation.
        target: u32,
    },
    /// A target called `execve`; its counts restart under another generation.
    Exec {
        /// The target's index.
        target: u32,
        /// The generation that begins.
        generation: u32,
        /// Whether a thread other than the main one called it, and is now the main one.
        by_thread: bool,
    },
    /// A target forked a process, or a process did that descends from it and is not traced yet.
    Fork {
        /// The target's index.
        target: u32,
        /// The new process's pid in the initial namespace; 0 if it is unknown.
        child: u32,
    },
    /// A target mapped or unmapped memory itself.
    Mapping {
        /// Target and generation.
        target: u32,
        /// Slot of the caller's stack.
        slot: u32,
        /// What is mapped now: first address and bytes.
        mapped: (u64, u64),
        /// What was unmapped: first address and bytes.
        unmapped: (u64, u64),
        /// When, for [`crate::bpf::Tracer::time_of`].
        time: u32,
    },
    /// A target's mappings must be read again.
    Miss {
        /// The target's index.
        target: u32,
        /// Whether its dynamic loader triggered this: the request will not be repeated.
        loader: bool,
    },
    /// A thread that holds a target's probes ends, or one that a signal ends.
    Thread {
        /// The target's index.
        target: u32,
        /// Whether it is the main thread; `None`: neither that nor the holder.
        main: Option<bool>,
        /// How it ends, in the form of `wait` (2); 0 also where that is unknown.
        status: u32,
        /// When, in ns of `CLOCK_MONOTONIC`.
        time: u64,
    },
    /// The OOM killer has chosen a process.
    Victim {
        /// The target's index; `None`: it is not traced.
        target: Option<u32>,
        /// Its pid in the initial namespace; 0: unknown.
        pid: u32,
        /// When, in ns of `CLOCK_MONOTONIC`.
        time: u64,
    },
}

/// The stream of events. Poll its file descriptor for reading, then call [`Events::next`] until it is empty.
pub struct Events {
    ring: RingBuf<MapData>,
}

impl Events {
    pub(in crate::bpf) fn new(ring: RingBuf<MapData>) -> Self {
        Self { ring }
    }

    /// The next event; `None` if there is none at the moment.
    #[expect(clippy::should_implement_trait, reason = "an iterator that ends would be fused by its users")]
    pub fn next(&mut self) -> Option<BpfEvent> {
        loop {
            let item = self.ring.next()?;
            if let Some(event) = decode(&item) {
                return Some(event);
            }
        }
    }
}

impl AsRawFd for Events {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.as_raw_fd()
    }
}

/// Reads a `T` from the start of `bytes`.
fn read<T: Copy>(bytes: &[u8]) -> Option<T> {
    // SAFETY: long enough; `T` is one of the ABI's structs of plain integers.
    (bytes.len() >= size_of::<T>()).then(|| unsafe { bytes.as_ptr().cast::<T>().read_unaligned() })
}

fn decode(bytes: &[u8]) -> Option<BpfEvent> {
    let kind: u32 = read(bytes)?;
    if kind == EventKind::Stack as u32 {
        decode_stack(bytes)
    } else if kind == EventKind::KernelStack as u32 {
        decode_kernel_stack(bytes)
    } else if kind == EventKind::Oracle as u32 {
        decode_oracle(bytes)
    } else if kind == EventKind::Trace as u32 {
        let event: TraceEvent = read(bytes)?;
        Some(BpfEvent::Trace {
            freed: event.op == Op::Free as u32,
            time: event.time,
            pid: (event.pid_tgid >> 32) as u32,
            tid: event.pid_tgid as u32,
            address: event.address,
            size: event.size,
            slot: event.slot,
            target: event.target,
        })
    } else if kind == EventKind::Exec as u32 {
        let event: ExecEvent = read(bytes)?;
        Some(BpfEvent::Exec {
            target: event.target,
            generation: event.generation,
            by_thread: event.by_thread != 0,
        })
    } else if kind == EventKind::Fork as u32 {
        let event: ForkEvent = read(bytes)?;
        Some(BpfEvent::Fork { target: Target::index(event.target), child: event.child })
    } else if kind == EventKind::Mapping as u32 {
        let event: MappingEvent = read(bytes)?;
        Some(BpfEvent::Mapping {
            target: event.target,
            slot: event.slot,
            mapped: (event.address, event.length),
            unmapped: (event.old_address, event.old_length),
            time: event.time,
        })
    } else if kind == EventKind::Miss as u32 {
        let event: MissEvent = read(bytes)?;
        Some(BpfEvent::Miss { target: Target::index(event.target), loader: event.loader != 0 })
    } else if kind == EventKind::Thread as u32 {
        let event: ThreadEvent = read(bytes)?;
        let main = (event.main < 2).then_some(event.main == 1);
        Some(BpfEvent::Thread { target: event.target, main, status: event.status, time: event.time })
    } else if kind == EventKind::Victim as u32 {
        let event: VictimEvent = read(bytes)?;
        let target = (event.target != VictimEvent::OTHER).then_some(event.target);
        Some(BpfEvent::Victim { target, pid: event.pid, time: event.time })
    } else {
        None
    }
}

fn decode_stack(bytes: &[u8]) -> Option<BpfEvent> {
    // The head of a `StackEvent`: kind, slot, hash, target, frames, end, unloaded.
    let [slot, target, frames, end, unloaded] =
        [4, 16, 20, 24, 28].map(|at| bytes.get(at..).and_then(read::<u32>));
    let hash = read(bytes.get(8..)?)?;
    let frames = (frames? as usize).min(MAX_FRAMES);
    let pcs = bytes.get(StackEvent::HEADER..)?.chunks_exact(8).take(frames).filter_map(read).collect();
    let end = WalkEnd::ALL.get(end? as usize).copied().unwrap_or(WalkEnd::Unreadable);
    Some(BpfEvent::Stack { slot: slot?, hash, target: target?, end, unloaded: unloaded?.into(), pcs })
}

fn decode_kernel_stack(bytes: &[u8]) -> Option<BpfEvent> {
    // The head of a `KernelStackEvent`: kind, slot, hash, frames, own.
    let [slot, frames, own] = [4, 16, 20].map(|at| bytes.get(at..).and_then(read::<u32>));
    let frames = (frames? as usize).min(KERNEL_FRAMES);
    let pcs = bytes.get(KernelStackEvent::HEADER..)?.chunks_exact(8).take(frames).filter_map(read).collect();
    Some(BpfEvent::KernelStack { slot: slot?, own: own?, pcs })
}

fn decode_oracle(bytes: &[u8]) -> Option<BpfEvent> {
    let event: OracleEvent = read(bytes)?;
    Some(BpfEvent::Oracle {
        slot: event.slot,
        end: WalkEnd::ALL.get(event.end as usize).copied().unwrap_or(WalkEnd::Unreadable),
        pcs: event.pcs.iter().take(event.frames as usize).copied().collect(),
        sp: event.sp,
        fp: event.fp,
        base: event.base,
        stack: event.stack.iter().take(event.length as usize).copied().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::{BpfEvent, decode};
    use memtrace_common::WalkEnd;

    fn stack(frames: u32, words: &[u64]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [1u32, 7] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(0xabcd_u64.to_ne_bytes());
        for word in [3u32, frames, 2, 0] {
            bytes.extend(word.to_ne_bytes());
        }
        for word in words {
            bytes.extend(word.to_ne_bytes());
        }
        bytes
    }

    #[test]
    fn a_stack_comes_back() {
        let expected = BpfEvent::Stack {
            slot: 7,
            hash: 0xabcd,
            target: 3,
            end: WalkEnd::NoFramePointer,
            unloaded: 0,
            pcs: vec![0x10, 0x20],
        };
        assert_eq!(decode(&stack(2, &[0x10, 0x20])), Some(expected));
    }

    #[test]
    fn short_and_lying_events_do_no_harm() {
        let whole = stack(1000, &[0x10, 0x20]);
        assert!(matches!(decode(&whole), Some(BpfEvent::Stack { pcs, .. }) if pcs.len() == 2));
        for length in 0..32 {
            assert_eq!(decode(&whole[..length]), None, "{length} bytes");
        }
        assert_eq!(decode(&[0xff; 64]), None);
    }
}
