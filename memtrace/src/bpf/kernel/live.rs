//! Reading kernel mode's table of live objects.

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use memtrace_common::{OBJECTS_PER_BUCKET, ObjectBucket};

use crate::bpf::shared::{mapped::Mapped, syscall, time};

/// Buckets mapped at a time: 2 MiB, so that the table does not count as the agent's memory.
const WINDOW: usize = 1 << 14;

/// Whether an object that looks outstanding is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is: its slab was looked through, and it is not among the free objects.
    There,
    /// It is not, and is out of the table.
    Gone,
    /// That cannot be told.
    Unknown,
}

/// A live object, as the table has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveObject {
    /// Its key, see [`memtrace_common::object_key`].
    pub key: u64,
    /// Its value, see [`memtrace_common::object_value`].
    pub value: u64,
    /// Whether it is there.
    pub presence: Presence,
}

impl LiveObject {
    /// The slot of the stack that allocated it.
    #[must_use]
    pub fn slot(&self) -> u32 {
        self.value as u32
    }

    /// When that was, on the tracer's clock, which says `now`.
    #[must_use]
    pub fn time(&self, now: Duration) -> Duration {
        time::at((self.value >> 32) as u32, now)
    }
}

/// The table of live objects and what overflowed it.
pub(super) struct ObjectTable {
    pub(super) buckets: OwnedFd,
    pub(super) overflow: OwnedFd,
    pub(super) length: usize,
}

impl ObjectTable {
    /// Calls `each` with every live object.
    ///
    /// # Errors
    /// The table could not be mapped or read.
    #[expect(clippy::indexing_slicing, reason = "`place` is below the length of the bucket's arrays")]
    pub(super) fn for_each(&self, mut each: impl FnMut(LiveObject)) -> io::Result<()> {
        let mut object = |key, value| each(LiveObject { key, value, presence: Presence::Unknown });
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
