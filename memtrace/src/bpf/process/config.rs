//! The configuration of the kernel side, set before it is loaded.

use memtrace_common::{Shift, WalkMethod, sampling::EXACT};

#[expect(unused_imports, reason = "for the documentation")]
use memtrace_common::Part;

/// What to count, and table sizes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Live blocks that can be tracked.
    pub max_live: u32,
    /// Distinct stacks that can be tracked.
    pub max_stacks: u32,
    /// Smallest size in bytes that is tracked.
    pub min_size: u64,
    /// Largest size in bytes that is tracked.
    pub max_size: u64,
    /// Whether every event is streamed.
    pub trace: bool,
    /// Whether each walk is streamed with the stack memory that it read, for tests.
    pub oracle: bool,
    /// Whether the programs log.
    pub verbose: bool,
    /// How stacks are taken.
    pub method: WalkMethod,
    /// Unwind rows that fit, 8 bytes each.
    pub rows: u32,
    /// Processes that will be traced.
    pub targets: u32,
    /// Whether those that descend from them will be traced too.
    pub follow: bool,
    /// Whether further processes will be traced.
    pub joins: bool,
    /// Which allocations are counted at first.
    pub sampling: Shift,
    /// Whether calls will be left out, so that uprobe sessions pay off if the kernel has them.
    pub skips: bool,
    /// Whether to attach by perf uprobes even if multi-uprobes are available, as on older kernels.
    pub perf: bool,
    /// Parts of the programs' work that are left out, to measure what they cost: bits of [`Part`].
    pub without: u32,
}

impl Config {
    /// Whether blocks of some sizes are left out.
    #[must_use]
    pub fn has_sizes(&self) -> bool {
        self.min_size > 0 || self.max_size < u64::MAX
    }
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
            follow: false,
            joins: false,
            sampling: EXACT,
            skips: false,
            perf: false,
            without: 0,
        }
    }
}
