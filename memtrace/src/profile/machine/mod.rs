//! The memory of a machine: what was read of it at one moment, and what two moments tell.

mod log;
mod missing;
mod place;
mod triage;

pub use log::{Constraint, KernelEvent, KernelLog, Killed, LogLine, OomKill, SlowReport};
pub use missing::Missing;
pub use place::{Holding, Owner, Part, PartKind, Place};
pub use triage::{Bounded, Growth, NextStep, Pattern, Suspect, Triage, Victim};

use std::time::Duration;

/// Memory of a process, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessMemory {
    /// Who.
    pub owner: Owner,
    /// When it started, in clock ticks since boot.
    pub started: u64,
    /// Its parent.
    pub parent: u32,
    /// Threads.
    pub threads: u64,
    /// Anonymous memory, its share of what it shares.
    pub anon: u64,
    /// Pages of files, its share.
    pub file: u64,
    /// Shared memory, its share.
    pub shmem: u64,
    /// Swapped out, its share.
    pub swap: u64,
    /// The same with what it shares counted whole, as the OOM killer does.
    pub swap_whole: u64,
    /// Huge pages of the pool that it maps, shared ones counted whole.
    pub huge: u64,
    /// Page tables.
    pub page_tables: u64,
    /// The resident set, shared pages counted whole.
    pub rss: u64,
    /// Address space.
    pub size: u64,
    /// What the OOM killer compares (`oom_score`).
    pub oom_score: u64,
    /// Its setting for that (`oom_score_adj`); -1000: never taken.
    pub oom_adjust: i64,
    /// Path of the cgroup that accounts its memory; empty if unknown.
    pub cgroup: String,
    /// Whether its share of shared pages could be read; otherwise these are counted whole.
    pub is_share: bool,
}

/// A mapping of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Address behind it.
    pub end: u64,
    /// Whether it can be read and written.
    pub is_writable: bool,
    /// Whether it can be neither read, written nor executed.
    pub is_guard: bool,
    /// Whether it is private, of no file, and neither the heap nor a stack by its name.
    pub is_anonymous: bool,
    /// Bytes in memory.
    pub rss: u64,
}

impl Range {
    /// Bytes of address space.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// What bounds memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum BoundKind {
    /// Memory and swap of the machine.
    Machine,
    /// The limit of a cgroup, at which processes are killed.
    CgroupMax(String),
    /// The limit of a cgroup, at which processes are slowed down.
    CgroupHigh(String),
    /// The size of a tmpfs, at which writing fails.
    Tmpfs(String),
    /// `net.ipv4.tcp_mem`, at which TCP drops data.
    Tcp,
}

impl BoundKind {
    /// Its name in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Machine => "machine",
            Self::CgroupMax(_) => "cgroup_max",
            Self::CgroupHigh(_) => "cgroup_high",
            Self::Tmpfs(_) => "tmpfs",
            Self::Tcp => "tcp_mem",
        }
    }

    /// The path of a cgroup or a mount point.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::CgroupMax(path) | Self::CgroupHigh(path) | Self::Tmpfs(path) => Some(path),
            Self::Machine | Self::Tcp => None,
        }
    }
}

/// A limit, and what counts against it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// Which.
    pub kind: BoundKind,
    /// Bytes.
    pub bytes: u64,
    /// Bytes used that the kernel cannot give up by itself.
    pub used: u64,
}

/// Memory of a cgroup, bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CgroupMemory {
    /// Its path.
    pub path: String,
    /// All that counts against its limit.
    pub current: u64,
    /// The part that is page cache.
    pub cache: u64,
    /// The part that is shared memory and tmpfs.
    pub shmem: u64,
    /// The part of the kernel; 0 in version 1.
    pub kernel: u64,
    /// `memory.max`.
    pub max: Option<u64>,
    /// `memory.high`.
    pub high: Option<u64>,
    /// Swap that it may use besides; `None`: no limit.
    pub swap_max: Option<u64>,
    /// Share of the last 10 s in which some task waited for memory (`memory.pressure`).
    pub pressure: Option<f64>,
}

/// The memory of the machine at a moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// When, since boot.
    pub at: Duration,
    /// All memory that the kernel manages.
    pub total: u64,
    /// What is available without swapping.
    pub available: u64,
    /// Size of swap, and what of it is used.
    pub swap: (u64, u64),
    /// Parts; they add up to the total, unless the kernel counts something twice.
    pub parts: Vec<Part>,
    /// Huge pages of the pool that are free, those of every size.
    pub huge_free: u64,
    /// The part of these that is promised to mappings, which have not touched them yet.
    pub huge_reserved: u64,
    /// Processes with memory of their own, by pid.
    pub processes: Vec<ProcessMemory>,
    /// What holds memory besides processes. They do not overlap, except BPF maps with vmalloc and inotify watches with slabs.
    pub holdings: Vec<Holding>,
    /// Slab caches that inotify watches and what they pin are in.
    pub watch_caches: Vec<String>,
    /// Cgroups, the largest first.
    pub cgroups: Vec<CgroupMemory>,
    /// Limits.
    pub bounds: Vec<Bound>,
    /// Share of the last 10 s in which some task waited for memory (/proc/pressure/memory).
    pub pressure: Option<f64>,
    /// What is not in the picture.
    pub missing: Vec<Missing>,
}

impl Snapshot {
    /// The size of a part.
    #[must_use]
    pub fn part(&self, kind: PartKind) -> u64 {
        self.parts.iter().find(|part| part.kind == kind).map_or(0, |part| part.bytes)
    }
}
