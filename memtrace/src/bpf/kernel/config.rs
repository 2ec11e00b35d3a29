//! What a kernel session counts.

use std::{fs::File, sync::Arc};

use memtrace_common::KernelKind;

/// What to count, and table sizes.
#[derive(Clone, Debug)]
pub struct KernelConfig {
    /// Kinds of memory.
    pub kinds: Vec<KernelKind>,
    /// Live objects that can be tracked.
    pub max_live: u32,
    /// Distinct stacks that can be tracked.
    pub max_stacks: u32,
    /// Smallest object in bytes that is tracked.
    pub min_size: u64,
    /// Largest object in bytes that is tracked.
    pub max_size: u64,
    /// Existing caches, and whether each is traced; `None` for all.
    pub caches: Option<Vec<(String, bool)>>,
    /// Processes that tracking is limited to, by their PIDs in `pid_namespace`; empty for all.
    pub tasks: Vec<u32>,
    /// Device and inode of the PID namespace of the agent and of all `tasks`; `None`: the initial one.
    pub pid_namespace: Option<(u64, u64)>,
    /// The directory of the cgroup that tracking is limited to.
    pub cgroup: Option<Arc<File>>,
    /// Whether stacks are recognized without walking them.
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
            pid_namespace: None,
            cgroup: None,
            memo: true,
        }
    }
}
