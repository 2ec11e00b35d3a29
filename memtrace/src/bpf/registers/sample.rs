//! Samples of the registers of threads that are on a CPU: one each, by a perf event that ends with it.

use std::{
    io, mem,
    num::NonZeroUsize,
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr::NonNull,
    sync::atomic::{Ordering, fence},
    time::Duration,
};

use aya_obj::generated::{
    PERF_EVENT_IOC_REFRESH, PERF_FLAG_FD_CLOEXEC, perf_event_attr, perf_event_mmap_page,
    perf_event_sample_format::{PERF_SAMPLE_REGS_USER, PERF_SAMPLE_TID},
    perf_event_type::PERF_RECORD_SAMPLE,
    perf_sw_ids::PERF_COUNT_SW_CPU_CLOCK,
    perf_type_id::PERF_TYPE_SOFTWARE,
};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};

/// Threads that are sampled at a time: a descriptor and two pages each.
const MOST: usize = 64;

/// CPU time of a thread until its sample, in ns.
const PERIOD: u64 = 100_000;

/// Bytes of a page, and of an event's ring.
const PAGE: usize = 4096;
/// Bytes of a header page and a ring.
const MAPPED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(2 * PAGE - 1);

/// The registers of a thread in user mode, or where it entered the kernel.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample {
    /// The thread, in this process's PID namespace.
    pub(super) tid: u32,
    /// The stack pointer.
    pub(super) sp: u64,
    /// All registers but flags and segments.
    pub(super) words: Vec<u64>,
}

/// Events of threads whose sample has not come yet.
#[derive(Default)]
pub(super) struct Sampler {
    events: Vec<Event>,
}

impl Sampler {
    /// Samples just these threads from now on, the first 64 of them. One that cannot be sampled is left out.
    pub(super) fn watch(&mut self, threads: impl Iterator<Item = u32>) {
        let threads: Vec<u32> = threads.take(MOST).collect();
        self.events.retain(|event| threads.contains(&event.tid));
        for tid in threads {
            if !self.events.iter().any(|event| event.tid == tid) {
                match Event::new(tid) {
                    Ok(event) => self.events.push(event),
                    Err(error) => tracing::debug!("thread {tid} is not sampled: {error}"),
                }
            }
        }
    }

    /// Waits until a sample has come, or that long. Returns those that have.
    pub(super) fn wait(&mut self, limit: Duration) -> Vec<Sample> {
        let events = self.events.iter().map(|event| libc::pollfd {
            fd: event.file.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        let mut events: Vec<libc::pollfd> = events.collect();
        let limit = libc::c_int::try_from(limit.as_millis().max(1)).unwrap_or(libc::c_int::MAX);
        // SAFETY: the vector holds as many elements as given. With an error nothing has come.
        unsafe { libc::poll(events.as_mut_ptr(), events.len() as libc::nfds_t, limit) };
        let samples: Vec<Sample> = self.events.iter().filter_map(Event::sample).collect();
        self.events.retain(|event| !samples.iter().any(|sample| sample.tid == event.tid));
        samples
    }
}

/// A thread's event.
struct Event {
    tid: u32,
    file: OwnedFd,
    mapping: NonNull<libc::c_void>,
}

impl Event {
    /// Starts one. `exclude_kernel` is not set: a sample inside a system call has the registers where it began.
    fn new(tid: u32) -> io::Result<Self> {
        // SAFETY: plain integers.
        let mut attr: perf_event_attr = unsafe { mem::zeroed() };
        attr.type_ = PERF_TYPE_SOFTWARE as u32;
        attr.size = size_of::<perf_event_attr>() as u32;
        attr.config = PERF_COUNT_SW_CPU_CLOCK as u64;
        attr.__bindgen_anon_1.sample_period = PERIOD;
        attr.sample_type = PERF_SAMPLE_TID as u64 | PERF_SAMPLE_REGS_USER as u64;
        attr.sample_regs_user = arch::MASK;
        attr.__bindgen_anon_2.wakeup_events = 1;
        attr.set_disabled(1);
        let (any_cpu, no_group) = (-1, -1);
        // SAFETY: the attributes are valid for their size; a successful call returns a new descriptor.
        let file = unsafe {
            let result = libc::syscall(
                libc::SYS_perf_event_open,
                &raw const attr,
                tid,
                any_cpu,
                no_group,
                PERF_FLAG_FD_CLOEXEC,
            );
            if result < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(result as i32)
        };
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let mapping = unsafe { mmap(None, MAPPED, protection, MapFlags::MAP_SHARED, file.as_fd(), 0)? };
        let event = Self { tid, file, mapping };
        // SAFETY: takes a number: the event ends with the first sample.
        if unsafe { libc::ioctl(event.file.as_raw_fd(), PERF_EVENT_IOC_REFRESH.into(), 1) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(event)
    }

    /// Its sample, if it has come.
    fn sample(&self) -> Option<Sample> {
        // SAFETY: the header page; the kernel writes `data_head` at any time.
        let head = unsafe {
            let page = self.mapping.cast::<perf_event_mmap_page>().as_ptr();
            (&raw const (*page).data_head).read_volatile()
        };
        fence(Ordering::Acquire);
        let length = usize::try_from(head).ok().filter(|length| (1..=PAGE).contains(length))?;
        let mut bytes = vec![0u8; length];
        // SAFETY: the ring is behind the header page; the kernel has written the first `length` bytes of it, and nothing has
        // been read yet, so that it does not write them again.
        unsafe {
            let ring = self.mapping.cast::<u8>().as_ptr().add(PAGE);
            std::ptr::copy_nonoverlapping(ring.cast_const(), bytes.as_mut_ptr(), length);
        }
        parse(&bytes)
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the mapping made in `new`. A failure cannot be handled.
        let _ = unsafe { munmap(self.mapping, MAPPED.get()) };
    }
}

/// The first sample with registers in a ring (`perf_event_open(2)`, "MMAP layout"). A thread of the kernel has none.
fn parse(mut ring: &[u8]) -> Option<Sample> {
    loop {
        let (&header, rest) = ring.split_first_chunk::<8>()?;
        let [a, b, c, d, _, _, e, f] = header;
        let length = usize::from(u16::from_ne_bytes([e, f])).checked_sub(8)?;
        let (record, behind) = rest.split_at_checked(length)?;
        if u32::from_ne_bytes([a, b, c, d]) == PERF_RECORD_SAMPLE as u32
            && let Some(sample) = registers(record)
        {
            return Some(sample);
        }
        ring = behind;
    }
}

/// `struct { u32 pid, tid; u64 abi; u64 regs[]; }`.
fn registers(record: &[u8]) -> Option<Sample> {
    let (&[_, _, _, _, a, b, c, d], rest) = record.split_first_chunk::<8>()?;
    let words: Vec<u64> = rest.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
    let (&abi, words) = words.split_first()?;
    let words = words.get(..arch::MASK.count_ones() as usize)?.to_vec();
    let sp = *words.get(arch::SP)?;
    (abi != 0).then_some(Sample { tid: u32::from_ne_bytes([a, b, c, d]), sp, words })
}

/// `enum perf_event_x86_regs` (arch/x86/include/uapi/asm/perf_regs.h).
#[cfg(target_arch = "x86_64")]
mod arch {
    /// ax, bx, cx, dx, si, di, bp, sp, ip; behind flags and segments r8 to r15.
    pub(super) const MASK: u64 = 0xff_01ff;
    /// Place of the stack pointer among them.
    pub(super) const SP: usize = 7;
}

/// `enum perf_event_arm_regs` (arch/arm64/include/uapi/asm/perf_regs.h).
#[cfg(target_arch = "aarch64")]
mod arch {
    /// x0 to x30, sp, pc.
    pub(super) const MASK: u64 = (1 << 33) - 1;
    /// Place of the stack pointer among them.
    pub(super) const SP: usize = 31;
}

#[cfg(test)]
mod tests {
    use super::{PERF_RECORD_SAMPLE, Sample, arch, parse};

    fn record(kind: u32, abi: u64) -> Vec<u8> {
        let count = arch::MASK.count_ones() as u64;
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend([0, 0]);
        bytes.extend((8 + 8 + 8 + 8 * count as u16).to_ne_bytes());
        bytes.extend([5u32, 7].iter().flat_map(|id| id.to_ne_bytes()));
        bytes.extend(abi.to_ne_bytes());
        bytes.extend((0..count).flat_map(|place| (100 + place).to_ne_bytes()));
        bytes
    }

    #[test]
    fn the_first_sample_with_registers_counts() {
        let sample = PERF_RECORD_SAMPLE as u32;
        let ring = [record(1, 2), record(sample, 0), record(sample, 2)].concat();
        let words: Vec<u64> = (0..u64::from(arch::MASK.count_ones())).map(|place| 100 + place).collect();
        assert_eq!(parse(&ring), Some(Sample { tid: 7, sp: 100 + arch::SP as u64, words }));
    }

    #[test]
    fn incomplete_rings_have_no_sample() {
        let whole = record(PERF_RECORD_SAMPLE as u32, 2);
        for length in 0..whole.len() {
            assert_eq!(parse(&whole[..length]), None);
        }
        assert_eq!(parse(&[9, 0, 0, 0, 0, 0, 0, 0, 9]), None);
    }
}
