//! The memory of a machine: what was read of it at one moment, and what two moments tell.

mod log;
mod missing;
mod triage;

pub use log::{Constraint, KernelEvent, KernelLog, Killed, LogLine, OomKill, SlowReport};
pub use missing::Missing;
pub use triage::{Bounded, Growth, NextStep, Pattern, Suspect, Triage, Victim};

use std::time::Duration;

/// Parts of the machine's memory that do not overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartKind {
    /// Anonymous memory of processes.
    Anonymous,
    /// Shared memory and tmpfs.
    Shmem,
    /// Pages of files, buffers of block devices and what is in the swap cache.
    PageCache,
    /// Slabs that the kernel gives back under pressure.
    SlabReclaimable,
    /// Slabs that it does not give back.
    SlabUnreclaimable,
    /// Page tables, of virtual machines too.
    PageTables,
    /// Stacks of threads in the kernel.
    KernelStacks,
    /// Other areas of virtually contiguous memory.
    Vmalloc,
    /// Per-CPU memory.
    Percpu,
    /// The pool of huge pages, used or not.
    HugePages,
    /// Compressed memory of zram and zswap.
    Compressed,
    /// What a balloon gave to the host.
    Balloon,
    /// Free pages, and those that wait on lists of CPUs.
    Free,
    /// What nothing counts: pages that drivers, pipes and sockets took.
    Unaccounted,
}

impl PartKind {
    /// All, in the order in which they are shown.
    pub const ALL: [Self; 14] = [
        Self::Anonymous,
        Self::Shmem,
        Self::PageCache,
        Self::SlabReclaimable,
        Self::SlabUnreclaimable,
        Self::PageTables,
        Self::KernelStacks,
        Self::Vmalloc,
        Self::Percpu,
        Self::HugePages,
        Self::Compressed,
        Self::Balloon,
        Self::Unaccounted,
        Self::Free,
    ];

    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Anonymous => "anonymous",
            Self::Shmem => "shmem",
            Self::PageCache => "page_cache",
            Self::SlabReclaimable => "slab_reclaimable",
            Self::SlabUnreclaimable => "slab_unreclaimable",
            Self::PageTables => "page_tables",
            Self::KernelStacks => "kernel_stacks",
            Self::Vmalloc => "vmalloc",
            Self::Percpu => "percpu",
            Self::HugePages => "huge_pages",
            Self::Compressed => "compressed",
            Self::Balloon => "balloon",
            Self::Free => "free",
            Self::Unaccounted => "unaccounted",
        }
    }
}

/// A part and its size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which.
    pub kind: PartKind,
    /// Bytes.
    pub bytes: u64,
}

/// A process by name. Two of them are the same process only if they started at the same time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    /// Its pid.
    pub pid: u32,
    /// Its command name, at most 64 bytes, as the target chose it.
    pub comm: String,
}

/// What holds memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Place {
    /// Anonymous memory of a process.
    Process(Owner),
    /// Shared memory that a process maps and that has no other name here.
    SharedBy(Owner),
    /// Page tables of a process.
    PageTablesOf(Owner),
    /// Files in a tmpfs that have names there.
    Tmpfs(String),
    /// A deleted file in a tmpfs that a process has open.
    Deleted(Owner, String),
    /// A memfd that a process has open, by its name.
    Memfd(Owner, String),
    /// Segments of System V shared memory by who made them, and whether no process has attached them.
    Segments(Owner, bool),
    /// A slab cache, and whether the kernel gives its memory back.
    Slab(String, bool),
    /// vmalloc by caller.
    Vmalloc(String),
    /// BPF maps that a process has open.
    BpfMaps(Owner),
    /// What is unread in pipes that a process has open.
    Pipes(Owner),
    /// What is unread in sockets of a process.
    Sockets(Owner),
    /// What is queued in TCP and UDP sockets of the machine.
    AllSockets,
    /// The rest of a part.
    Rest(PartKind),
}

impl Place {
    /// Its name in JSON.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Process(_) => "process",
            Self::SharedBy(_) => "process_shmem",
            Self::PageTablesOf(_) => "process_page_tables",
            Self::Tmpfs(_) => "tmpfs",
            Self::Deleted(..) => "deleted_file",
            Self::Memfd(..) => "memfd",
            Self::Segments(..) => "sysv_segments",
            Self::Slab(..) => "slab_cache",
            Self::Vmalloc(_) => "vmalloc",
            Self::BpfMaps(_) => "bpf_maps",
            Self::Pipes(_) => "pipes",
            Self::Sockets(_) => "sockets",
            Self::AllSockets => "all_sockets",
            Self::Rest(kind) => kind.name(),
        }
    }

    /// The process that holds it.
    #[must_use]
    pub fn owner(&self) -> Option<&Owner> {
        match self {
            Self::Process(owner)
            | Self::SharedBy(owner)
            | Self::PageTablesOf(owner)
            | Self::Deleted(owner, _)
            | Self::Memfd(owner, _)
            | Self::Segments(owner, _)
            | Self::BpfMaps(owner)
            | Self::Pipes(owner)
            | Self::Sockets(owner) => Some(owner),
            _ => None,
        }
    }

    /// What else names it: a mount point, a path, a cache, a caller.
    #[must_use]
    pub fn label(&self) -> Option<&str> {
        match self {
            Self::Tmpfs(text)
            | Self::Deleted(_, text)
            | Self::Memfd(_, text)
            | Self::Slab(text, _)
            | Self::Vmalloc(text) => Some(text),
            _ => None,
        }
    }

    /// The part that its memory is in. Of sockets and BPF maps some is in others.
    #[must_use]
    pub fn part(&self) -> PartKind {
        match self {
            Self::Process(_) => PartKind::Anonymous,
            Self::SharedBy(_) | Self::Tmpfs(_) | Self::Deleted(..) | Self::Memfd(..) | Self::Segments(..) => {
                PartKind::Shmem
            }
            Self::PageTablesOf(_) => PartKind::PageTables,
            Self::Slab(_, true) => PartKind::SlabReclaimable,
            Self::Slab(_, false) => PartKind::SlabUnreclaimable,
            Self::Vmalloc(_) | Self::BpfMaps(_) => PartKind::Vmalloc,
            Self::Pipes(_) | Self::Sockets(_) | Self::AllSockets => PartKind::Unaccounted,
            Self::Rest(kind) => *kind,
        }
    }
}

/// Memory in one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holding {
    /// Where.
    pub place: Place,
    /// Bytes in memory.
    pub bytes: u64,
    /// Of how many: files, segments, objects, areas, pipes.
    pub count: u64,
}

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
    /// Huge pages of the pool that are free.
    pub huge_free: u64,
    /// Processes with memory of their own, by pid.
    pub processes: Vec<ProcessMemory>,
    /// What holds memory besides processes. They do not overlap, except BPF maps with vmalloc.
    pub holdings: Vec<Holding>,
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
