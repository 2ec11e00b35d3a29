//! Calls in flight: entered, not yet returned, kept in a slot per thread.

use crate::{cookie::Cookie, live::Block, sampling::Sample, stack::mix};

/// Nested calls kept per thread. Allocators nest two deep (`realloc` → `malloc`), interposed ones three.
pub const CALLS_PER_THREAD: usize = 4;

/// Slots tried for a thread before the table counts as full.
pub const THREAD_PROBES: u32 = 8;

/// An allocating call in flight.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Call {
    /// Canonical frame address: the value of the stack pointer once the call has returned. 0: no call.
    pub cfa: u64,
    /// Bytes asked for, and whether the block is recorded. `mmap` and its like: the length.
    pub sample: Sample,
    /// Return address: where the call was made from.
    pub caller: u64,
    /// `realloc`: the block given up. `posix_memalign`: where the result is stored.
    pub argument: u64,
    /// Key of the block that a nested call recorded last, to be taken back when this call returns. `munmap`, `mremap`:
    /// the length given up.
    pub inner: u64,
    /// What `realloc`'s old block was; size and stack are 0 if it was unknown.
    pub old: Block,
    /// Slot of the caller's stack.
    pub stack: u32,
    /// Target's index and generation.
    pub target: u32,
    /// What the function does: the cookie of its entry.
    pub cookie: Cookie,
}
const _: () = assert!(size_of::<Call>() == 72);

/// A thread's calls in flight, outermost first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Thread {
    /// tgid and tid of the thread that has claimed the slot; 0 when it is free.
    pub owner: u64,
    /// Number of calls.
    pub depth: u32,
    /// [`crate::Target::window`] when they were entered: calls of another one may be over.
    pub window: u32,
    /// The calls.
    pub calls: [Call; CALLS_PER_THREAD],
    /// Fills the slot to whole cache lines.
    pub reserved: [u64; 2],
}
const _: () = assert!(size_of::<Thread>() == 320);

/// The first slot to try for a thread.
#[inline(always)]
#[must_use]
pub const fn thread_index(pid_tgid: u64) -> u32 {
    (mix(pid_tgid) >> 40) as u32
}
