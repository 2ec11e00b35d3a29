//! Reading the table of live blocks.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use memtrace_common::{
    BLOCKS_PER_BUCKET, Block, Bucket, STACK_TABLE_FULL, Sample, StackSlot, bucket_index, is_of_generation,
    live_address, live_key, live_target,
};
use rustc_hash::FxHashMap;

use crate::bpf::shared::{
    mapped::Mapped,
    syscall,
    time::{self, monotonic_ns},
};

/// Buckets mapped at a time: 3 MiB, so that the table does not count as the agent's memory.
const WINDOW: usize = 1 << 14;

/// One block of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its address.
    pub address: u64,
    /// Its size in bytes, and what it represents.
    pub sample: Sample,
    /// Slot of the allocating stack.
    pub slot: u32,
    /// When it was allocated, since the start of tracing, to about 4 ms.
    pub time: Duration,
}

impl Live {
    fn new(key: u64, block: Block, now: Duration) -> Self {
        Self {
            address: live_address(key),
            sample: block.sample,
            slot: block.stack,
            time: time::at(block.time, now),
        }
    }
}

/// Reads live blocks, on any thread.
pub struct LiveReader {
    pub(super) table: LiveTable,
    /// A descriptor of the table of stacks, and the table.
    pub(super) stacks: (OwnedFd, Mapped<StackSlot>),
    /// When tracing began.
    pub(super) epoch: u64,
}

impl LiveReader {
    pub(super) fn new(table: LiveTable, stacks: OwnedFd, length: usize, epoch: u64) -> io::Result<Self> {
        let mapped = Mapped::new(stacks.as_fd(), 0, length)?;
        Ok(Self { table, stacks: (stacks, mapped), epoch })
    }

    /// Another one, for another thread.
    ///
    /// # Errors
    /// Out of descriptors or memory.
    pub fn try_clone(&self) -> io::Result<Self> {
        let LiveTable { buckets, overflow, length } = &self.table;
        let table =
            LiveTable { buckets: buckets.try_clone()?, overflow: overflow.try_clone()?, length: *length };
        Self::new(table, self.stacks.0.try_clone()?, self.stacks.1.len(), self.epoch)
    }

    /// Calls `each` for every live block of a target's generation. Costs a pass over the table of blocks:
    /// about 6 ms per million blocks of `max_live`.
    ///
    /// # Errors
    /// The table cannot be mapped.
    pub fn for_each(&self, target: u32, mut each: impl FnMut(Live)) -> io::Result<()> {
        // Keys repeat after 256 `execve`s, owners of stacks do not. Looking them up costs a quarter of the pass.
        let repeats = target >> 8 > 0xff;
        let owns = |slot: u32| {
            !repeats
                || slot == STACK_TABLE_FULL
                || self.stacks.1.get(slot as usize).is_none_or(|slot| slot.target == target)
        };
        self.table.for_each(target, self.elapsed(), |block| {
            if owns(block.slot) {
                each(block);
            }
        })
    }

    /// Time since tracing began, on the clock of block times.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        Duration::from_nanos(monotonic_ns().saturating_sub(self.epoch))
    }
}

/// The table of live blocks and what overflowed it.
pub(super) struct LiveTable {
    pub(super) buckets: OwnedFd,
    pub(super) overflow: OwnedFd,
    pub(super) length: usize,
}

impl LiveTable {
    /// Calls `each` for every live block of a target's generation; `now`: the time since the start of tracing.
    ///
    /// # Errors
    /// The table could not be mapped or read.
    #[expect(clippy::indexing_slicing, reason = "`place` is below the length of the bucket's arrays")]
    pub(super) fn for_each(&self, target: u32, now: Duration, mut each: impl FnMut(Live)) -> io::Result<()> {
        let owner = live_key(0, target);
        let mine = |key: u64| key != 0 && key & 1 == 0 && key >> 48 == owner >> 48;
        let mut overflowed = false;
        for start in (0..self.length).step_by(WINDOW) {
            let window = Mapped::<Bucket>::new(self.buckets.as_fd(), start, WINDOW.min(self.length - start))?;
            for index in 0..window.len() {
                let Some(bucket) = window.pointer(index) else { break };
                // SAFETY: points to a mapped bucket; fields are read one by one, as programs write them.
                unsafe {
                    overflowed |= (&raw const (*bucket).overflowed).read_volatile() != 0;
                    for place in 0..BLOCKS_PER_BUCKET {
                        let key = (&raw const (*bucket).keys[place]).read_volatile();
                        if !mine(key) {
                            continue;
                        }
                        let block = (&raw const (*bucket).blocks[place]).read_volatile();
                        // Replaced while it was read: it is now another block.
                        if (&raw const (*bucket).keys[place]).read_volatile() == key {
                            each(Live::new(key, block, now));
                        }
                    }
                }
            }
        }
        if overflowed {
            syscall::for_each_entry(self.overflow.as_fd(), |key: u64, block: Block| {
                if mine(key) {
                    each(Live::new(key, block, now));
                }
            })?;
        }
        Ok(())
    }

    /// Clears blocks of earlier programs of a target: those of generations other than the current one, which
    /// `generation` returns. It is called after each key is read: a key of a program that began meanwhile is not older.
    ///
    /// # Errors
    /// The table could not be mapped or read; what is not cleared occupies places.
    #[expect(clippy::indexing_slicing, reason = "`place` is below the length of the bucket's arrays")]
    pub(super) fn forget_past(&self, target: u32, generation: impl Fn() -> u32) -> io::Result<()> {
        let past = |key: u64| {
            key != 0 && key & 1 == 0 && live_target(key) == target && !is_of_generation(key, generation())
        };
        let mut taken_out = self.forget_overflowed(past)?;
        for start in (0..self.length).step_by(WINDOW) {
            let length = WINDOW.min(self.length - start);
            let window = Mapped::<Bucket>::writable_from(self.buckets.as_fd(), start, length)?;
            for index in 0..window.len() {
                let Some(bucket) = window.pointer(index).map(<*const Bucket>::cast_mut) else { break };
                // SAFETY: points to mapped words, which programs change by atomic operations too.
                let word = |word: *mut u64| unsafe { AtomicU64::from_ptr(word) };
                for place in 0..BLOCKS_PER_BUCKET {
                    // SAFETY: within the bucket.
                    let place = word(unsafe { &raw mut (*bucket).keys[place] });
                    let key = place.load(Ordering::Acquire);
                    if past(key) {
                        // If a program took the place meanwhile, it is not free.
                        let _ = place.compare_exchange(key, 0, Ordering::AcqRel, Ordering::Relaxed);
                    }
                }
                if let Some(count) = taken_out.remove(&((start + index) as u32)) {
                    // SAFETY: within the bucket.
                    word(unsafe { &raw mut (*bucket).overflowed }).fetch_sub(count, Ordering::AcqRel);
                }
            }
        }
        Ok(())
    }

    /// The same in the overflow map. Returns how many were removed, by bucket.
    fn forget_overflowed(&self, past: impl Fn(u64) -> bool) -> io::Result<FxHashMap<u32, u64>> {
        let mut keys = Vec::new();
        syscall::for_each_entry(self.overflow.as_fd(), |key: u64, _: Block| {
            if past(key) {
                keys.push(key);
            }
        })?;
        let mut taken_out: FxHashMap<u32, u64> = FxHashMap::default();
        for key in keys {
            if syscall::delete_entry(self.overflow.as_fd(), &key)? {
                *taken_out.entry(bucket_index(key, self.length as u32 - 1)).or_default() += 1;
            }
        }
        Ok(taken_out)
    }
}
