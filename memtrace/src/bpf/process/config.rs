//! What the kernel side is told before it is loaded.

use memtrace_common::{Shift, WalkMethod, sampling::EXACT};

#[expect(unused_imports, reason = "for the documentation")]
use memtrace_common::Part;

/// What to count, and how much room to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Live blocks that can be tracked.
    pub max_live: u32,
    /// Stacks that can be told apart.
    pub max_stacks: u32,
    /// Smallest size in bytes that is tracked.
    pub min_size: u64,
    /// Largest size in bytes that is tracked.
    pub max_size: u64,
    /// Whether every event is streamed.
    pub trace: bool,
    /// Whether each walk is streamed with the memory it was made in, for tests.
    pub oracle: bool,
    /// Whether the programs log.
    pub verbose: bool,
    /// How stacks are taken.
    pub method: WalkMethod,
    /// Unwind rows there is room for, 8 bytes each.
    pub rows: u32,
    /// Processes that are going to be traced.
    pub targets: u32,
    /// Which allocations are counted at first.
    pub sampling: Shift,
    /// Whether calls are going to be left out, so that it pays to attach by uprobe sessions where the kernel has them.
    pub skips: bool,
    /// Whether to attach by perf uprobes even where multi-uprobes are to be had, as on older kernels.
    pub perf: bool,
    /// Parts of the programs' work that are left out, to measure what they cost: bits of [`Part`].
    pub without: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_live: 1_000_000,
            max_stacks: 1 << 16,
            min_size: 0,
            max_size: u64::MAX,
            trace: false,
            oracle: false,
            verbose: false,
            method: WalkMethod::Cfi,
            rows: 448 << 10,
            targets: 1,
            sampling: EXACT,
            skips: false,
            perf: false,
            without: 0,
        }
    }
}
