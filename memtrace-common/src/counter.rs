//! Counters the programs keep, one per CPU each.

/// Index into the `COUNTERS` map.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Blocks not tracked because bucket and overflow map were full.
    LiveMapFull = 0,
    /// Their bytes.
    LiveMapFullBytes = 1,
    /// Calls that were entered and never seen to return.
    InFlightLost = 2,
    /// Stacks or trace events that did not fit into the ring buffer.
    RingFull = 3,
    /// Allocations without a walk because every walk slot of the CPU was taken.
    NoWalkSlot = 4,
    /// Allocations not tracked because the table of threads was full.
    NoThreadSlot = 5,
    /// Allocations whose stack found no slot.
    StackTableFull = 6,
    /// Blocks allocated at an address that was still live.
    MissedFrees = 7,
    /// Child processes forked by a target.
    Forks = 8,
    /// `posix_memalign`-like results that could not be read from the target.
    ResultUnreadable = 9,
    /// Calls in flight on threads that ended: lost, unless the whole process ended with them.
    InFlightAtExit = 10,
}

impl Counter {
    /// Number of counters: the size of the map.
    pub const COUNT: u32 = 11;
}
