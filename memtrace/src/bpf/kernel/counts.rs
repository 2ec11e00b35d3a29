//! What kernel mode's programs have counted.

use memtrace_common::KernelKind;

use crate::profile::Reason;

/// A slot of the table of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelStack {
    /// Its index.
    pub slot: u32,
    /// Why it has no frames: it counts objects of many stacks. `None` for a stack.
    pub nameless: Option<Reason>,
    /// Kind of memory; `None` for what did not get a slot at all.
    pub kind: Option<KernelKind>,
    /// Index of the cache, see [`super::KernelTracer::caches`].
    pub cache: u32,
    /// Bytes of each object.
    pub size: u64,
    /// Objects allocated.
    pub allocated: u64,
    /// Objects seen to be freed.
    pub freed: u64,
    /// Objects whose free was not seen: their address was allocated again.
    pub missed: u64,
    /// Objects whose free was not seen: they were found among the free ones of their slab.
    pub evicted: u64,
}

/// What was counted for a cache besides tracked objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CacheCounts {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Objects freed that were not tracked.
    pub untracked_freed: u64,
    /// Objects allocated that a filter by task left out.
    pub untracked_allocated: u64,
}

/// What was lost, and what was left out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KernelLosses {
    /// Objects not tracked: the table of live objects was full.
    pub live_map_full: u64,
    /// Their bytes.
    pub live_map_full_bytes: u64,
    /// Stacks that did not fit into the ring buffer.
    pub ring_full: u64,
    /// Allocations without a stack: every walk slot of the CPU was in use.
    pub no_walk_slot: u64,
    /// Allocations whose stack did not get a slot of its own.
    pub stack_table_full: u64,
    /// Objects allocated at an address that was still live.
    pub missed_frees: u64,
    /// Runs of programs that the kernel skipped.
    pub kernel_missed: u64,
    /// Pages of user memory and page cache, not tracked.
    pub user_pages: u64,
    /// The agent's own allocations, not tracked.
    pub own: u64,
    /// Stacks that had to be walked.
    pub walks: u64,
}
