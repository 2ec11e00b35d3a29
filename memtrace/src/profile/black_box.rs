//! What happened to a process when memory ran out, and what announced it.

use serde::{Deserialize, Serialize};

/// What announces that memory is about to run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sign {
    /// A limit is nearly used up.
    NearLimit,
    /// `memory.high` of a cgroup was reached: its processes are slowed down.
    High,
    /// The limit of a cgroup was reached: the kernel looks for memory to give up.
    Max,
    /// Tasks wait for memory.
    Pressure,
}

/// Which memory ran out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RanOut {
    /// The memory of the machine.
    Machine,
    /// The limit of a cgroup.
    Cgroup,
    /// The nodes of a memory policy or a cpuset.
    Nodes,
    /// The kernel's log does not say, or cannot be read.
    #[default]
    Unknown,
}

/// A kill by the OOM killer, as the kernel's log has it. Bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutOfMemory {
    /// Which memory ran out.
    pub constraint: RanOut,
    /// The path of the cgroup.
    pub cgroup: Option<String>,
    /// Its limit.
    pub limit_bytes: Option<u64>,
    /// What was resident of the process that was killed.
    pub rss_bytes: Option<u64>,
    /// The part of it that was anonymous.
    pub anon_bytes: Option<u64>,
    /// Shared memory and tmpfs of the cgroup, or else of the machine.
    pub shmem_bytes: Option<u64>,
}
