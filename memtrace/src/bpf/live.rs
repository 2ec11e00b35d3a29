//! Reading the table of live blocks.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use memtrace_common::{BLOCKS_PER_BUCKET, Block, Bucket, Sample, TIME_SHIFT, live_address, live_key};

use super::{mapped::Mapped, syscall};

/// Buckets mapped at a time: 3 MiB, so that the table does not count as the agent's memory.
const WINDOW: usize = 1 << 14;

/// One block of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Live {
    /// Its address.
    pub address: u64,
    /// Its size in bytes, and what it stands for.
    pub sample: Sample,
    /// Slot of the allocating stack.
    pub slot: u32,
    /// When it was allocated, since the start of tracing, to about 4 ms.
    pub time: Duration,
}

impl Live {
    fn new(key: u64, block: Block) -> Self {
        Self {
            address: live_address(key),
            sample: block.sample,
            slot: block.stack,
            time: Duration::from_nanos(u64::from(block.time) << TIME_SHIFT),
        }
    }
}

/// The table of live blocks and what overflowed it.
pub(super) struct LiveTable {
    pub(super) buckets: OwnedFd,
    pub(super) overflow: OwnedFd,
    pub(super) length: usize,
}

impl LiveTable {
    /// Calls `each` for every live block of a target's generation.
    ///
    /// # Errors
    /// The table could not be mapped or read.
    pub(super) fn for_each(&self, target: u32, mut each: impl FnMut(Live)) -> io::Result<()> {
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
                        // Replaced while it was read: it is another block now.
                        if (&raw const (*bucket).keys[place]).read_volatile() == key {
                            each(Live::new(key, block));
                        }
                    }
                }
            }
        }
        if overflowed {
            syscall::for_each_entry(self.overflow.as_fd(), |key: u64, block: Block| {
                if mine(key) {
                    each(Live::new(key, block));
                }
            })?;
        }
        Ok(())
    }
}
