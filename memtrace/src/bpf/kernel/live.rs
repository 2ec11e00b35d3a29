//! Reading kernel mode's table of live objects.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use memtrace_common::{OBJECTS_PER_BUCKET, ObjectBucket, TIME_SHIFT};

use super::super::{mapped::Mapped, syscall};

/// Buckets mapped at a time: 2 MiB, so that the table does not count as the agent's memory.
const WINDOW: usize = 1 << 14;

/// The table of live objects and what overflowed it.
pub(super) struct ObjectTable {
    pub(super) buckets: OwnedFd,
    pub(super) overflow: OwnedFd,
    pub(super) length: usize,
}

impl ObjectTable {
    /// Calls `each` with address, stack's slot and time of allocation of every live object.
    ///
    /// # Errors
    /// The table could not be mapped or read.
    pub(super) fn for_each(&self, mut each: impl FnMut(u64, u32, Duration)) -> io::Result<()> {
        let mut object = |key: u64, value: u64| {
            let time = Duration::from_nanos((value >> 32) << TIME_SHIFT);
            each(key, value as u32, time);
        };
        let mut overflowed = false;
        for start in (0..self.length).step_by(WINDOW) {
            let window =
                Mapped::<ObjectBucket>::new(self.buckets.as_fd(), start, WINDOW.min(self.length - start))?;
            for index in 0..window.len() {
                let Some(bucket) = window.pointer(index) else { break };
                // SAFETY: points to a mapped bucket; fields are read one by one, as programs write them.
                unsafe {
                    overflowed |= (&raw const (*bucket).overflowed).read_volatile() != 0;
                    for place in 0..OBJECTS_PER_BUCKET {
                        let key = (&raw const (*bucket).keys[place]).read_volatile();
                        if key != 0 && key & 1 == 0 {
                            object(key, (&raw const (*bucket).values[place]).read_volatile());
                        }
                    }
                }
            }
        }
        if overflowed {
            syscall::for_each_entry(self.overflow.as_fd(), &mut object)?;
        }
        Ok(())
    }
}
