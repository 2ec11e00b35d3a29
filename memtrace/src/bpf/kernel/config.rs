//! What a session of kernel mode is to count.

use memtrace_common::KernelKind;

/// What to count, and how much room to give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelConfig {
    /// Kinds of memory.
    pub kinds: Vec<KernelKind>,
    /// Live objects that can be tracked.
    pub max_live: u32,
    /// Stacks that can be told apart.
    pub max_stacks: u32,
    /// Smallest object in bytes that is tracked.
    pub min_size: u64,
    /// Largest object in bytes that is tracked.
    pub max_size: u64,
    /// Caches there are, and whether each is wanted; `None` for all.
    pub caches: Option<Vec<(String, bool)>>,
    /// Processes that tracking is limited to; empty for all.
    pub tasks: Vec<u32>,
    /// The cgroup that tracking is limited to: its id and its depth.
    pub cgroup: Option<(u64, u32)>,
    /// Whether stacks are recognised without walking them.
    pub memo: bool,
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self {
            kinds: vec![KernelKind::Slab, KernelKind::Percpu],
            max_live: 1_000_000,
            max_stacks: 1 << 16,
            min_size: 0,
            max_size: u64::MAX,
            caches: None,
            tasks: Vec::new(),
            cgroup: None,
            memo: true,
        }
    }
}
