//! What the kernel's log says about memory that ran out.

use std::time::Duration;

/// A line of the kernel's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// When, since boot.
    pub at: Duration,
    /// The text; the kernel has escaped what is not printable.
    pub text: String,
}

/// What ran out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constraint {
    /// The memory of the machine.
    Machine,
    /// The limit of a cgroup: its path.
    Cgroup(String),
    /// The nodes of a memory policy or a cpuset.
    Nodes,
}

impl Constraint {
    /// Its name in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::Cgroup(_) => "cgroup",
            Self::Nodes => "nodes",
        }
    }
}

/// A process in the report of the OOM killer, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Killed {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// Resident anonymous memory.
    pub anon: u64,
    /// Resident pages of files.
    pub file: u64,
    /// Resident shared memory.
    pub shmem: u64,
    /// Page tables.
    pub page_tables: u64,
}

impl Killed {
    /// The resident set.
    #[must_use]
    pub fn rss(&self) -> u64 {
        self.anon.saturating_add(self.file).saturating_add(self.shmem)
    }
}

/// A kill by the OOM killer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OomKill {
    /// When, since boot.
    pub at: Duration,
    /// Command name of the task that asked for memory; empty if that line is gone.
    pub asked_by: String,
    /// It asked for 2 to the power of this pages.
    pub order: u32,
    /// What ran out.
    pub constraint: Constraint,
    /// The limit of the cgroup, bytes.
    pub limit: Option<u64>,
    /// Who was killed.
    pub killed: Killed,
    /// The largest process then, with what was swapped out; `None` without `vm.oom_dump_tasks`.
    pub largest: Option<Killed>,
    /// Slab, reclaimable and not, bytes; of the cgroup if its limit was reached. `None`: the log does not say.
    pub slab: Option<(u64, u64)>,
    /// Shared memory and tmpfs, likewise.
    pub shmem: Option<u64>,
}

/// Something that the kernel said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KernelEvent {
    /// A process was killed.
    Kill(Box<OomKill>),
    /// An allocation failed.
    Failure {
        /// When, since boot.
        at: Duration,
        /// Command name of the task.
        comm: String,
        /// It asked for 2 to the power of this pages; `None`: vmalloc.
        order: Option<u32>,
        /// The flags, as the kernel names them.
        mode: String,
        /// Free pages then, bytes.
        free: Option<u64>,
    },
}

impl KernelEvent {
    /// When, since boot.
    #[must_use]
    pub fn at(&self) -> Duration {
        match self {
            Self::Kill(kill) => kill.at,
            Self::Failure { at, .. } => *at,
        }
    }
}

/// Settings that make the report of an OOM kill slow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SlowReport {
    /// `vm.oom_dump_tasks`: a line for each of that many processes.
    DumpTasks(u64),
    /// `kernel.printk`: the console's level, and the name of a serial console that prints it.
    SerialConsole(u32, String),
}

/// What the kernel's log says about memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelLog {
    /// What happened, the oldest first.
    pub events: Vec<KernelEvent>,
    /// Events before those that are kept here.
    pub left_out: u64,
    /// Whether the beginning of the log was overwritten.
    pub is_cut: bool,
    /// Settings that make reports slow.
    pub slow: Vec<SlowReport>,
}
