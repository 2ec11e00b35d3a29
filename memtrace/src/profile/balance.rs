//! What a process's memory grows by, and what that means.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Amount, Weight};

/// What a process has in memory, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resident {
    /// Anonymous memory.
    pub anon: u64,
    /// Pages of files.
    pub file: u64,
    /// Shared memory and tmpfs.
    pub shmem: u64,
    /// Anonymous memory that is swapped out; not part of the resident set.
    pub swap: u64,
    /// Page tables; not part of the resident set.
    pub page_tables: u64,
    /// Address space.
    pub size: u64,
}

impl Resident {
    /// The resident set.
    #[must_use]
    pub fn rss(&self) -> u64 {
        self.anon.saturating_add(self.file).saturating_add(self.shmem)
    }
}

/// Growth and its parts: bytes, or bytes per second. The parts add up to the total.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Parts {
    /// Of the resident set and what is swapped out.
    pub total: f64,
    /// Blocks that were allocated and not freed, as requested.
    pub blocks: f64,
    /// Resident memory that the process mapped itself, without stacks of threads.
    pub mapped: f64,
    /// Resident memory of threads' stacks.
    pub stacks: f64,
    /// What the allocator keeps: freed blocks, rounding, its own data. Negative: it uses what it kept earlier.
    pub kept: f64,
    /// Pages of files and shared memory.
    pub shared: f64,
    /// The rest.
    pub unexplained: f64,
}

/// How the growth of blocks is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Knowledge {
    /// Every allocation was counted.
    #[default]
    Counted,
    /// By samples.
    Sampled,
    /// Extrapolated from windows, at most what nothing else explains. Blocks that live longer than a window and are freed
    /// later count too; what is allocated between windows may be missed.
    AtMost,
    /// By the allocator's own lists, as windows do not show it.
    Measured,
}

/// Why not all blocks are counted: then what the allocator keeps cannot be inferred from those that are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Uncounted {
    /// A filter leaves out blocks of some sizes.
    Sizes,
    /// The table of live blocks was full for this much.
    TableFull(Amount),
}

/// The verdict on a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Blocks are lost, or their live bytes keep growing.
    Leak,
    /// Nothing grows that would be a leak.
    NoLeak,
    /// The allocator keeps freed memory.
    KeptByAllocator,
    /// Memory that the process maps itself grows.
    Mappings,
    /// Stacks of threads grow.
    Threads,
    /// Shared memory or tmpfs grows.
    SharedMemory,
    /// Something grows that is not seen.
    Unseen,
    /// Not enough time to tell.
    #[default]
    TooEarly,
}

impl Standing {
    /// Its name in JSON.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Leak => "leak",
            Self::NoLeak => "no_leak",
            Self::KeptByAllocator => "kept_by_allocator",
            Self::Mappings => "mappings",
            Self::Threads => "threads",
            Self::SharedMemory => "shared_memory",
            Self::Unseen => "unseen",
            Self::TooEarly => "too_early",
        }
    }
}

/// How the memory has moved of late.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Course {
    /// Not.
    #[default]
    Flat,
    /// It grows.
    Growing,
    /// It grows, much slower than before.
    Slowing,
    /// It grows, as memory is used that the process had mapped or allocated before.
    Filling,
}

/// What bounds the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LimitKind {
    /// `memory.max` of a cgroup: processes are killed.
    CgroupMax(String),
    /// `memory.high` of a cgroup: processes are slowed down.
    CgroupHigh(String),
    /// `RLIMIT_AS`: allocations fail.
    AddressSpace,
    /// What the machine has left.
    Machine,
}

/// A limit that a process approaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Which.
    pub kind: LimitKind,
    /// Bytes; of the machine, those available now.
    pub bytes: u64,
    /// Bytes that count against it now; of the machine 0.
    pub used: u64,
    /// When it is reached if growth goes on as it does; `None`: it does not grow.
    pub reached_in: Option<Duration>,
}

/// Stacks of threads that were created since tracing began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadStacks {
    /// How many.
    pub count: u64,
    /// Their address space.
    pub bytes: u64,
    /// Stacks whose threads have ended, at least.
    pub ended: u64,
    /// Their address space.
    pub ended_bytes: u64,
    /// Whether these cannot be stacks that the C library keeps for the next threads: the threads were never joined.
    pub unjoined: bool,
}

/// What the cgroup of a process has gained since tracing began, bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupGrowth {
    /// Its path.
    pub name: String,
    /// Shared memory and tmpfs.
    pub shmem: i64,
    /// Page cache.
    pub cache: i64,
    /// Memory of the kernel.
    pub kernel: i64,
}

/// A child that is not traced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub comm: String,
    /// Its resident set, bytes.
    pub rss: u64,
    /// Its growth since it was first seen.
    pub grown: i64,
}

/// The memory of a process: what it grows by, and what that means.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Balance {
    /// The process.
    pub pid: u32,
    /// Time since tracing began, up to the last sample.
    pub span: Duration,
    /// What it has now.
    pub resident: Resident,
    /// Growth since tracing began.
    pub grown: Parts,
    /// Growth of late, per second.
    pub rate: Parts,
    /// How far back that looks.
    pub recent: Duration,
    /// How the growth of blocks is known.
    pub knowledge: Knowledge,
    /// Bytes that leak checks have found lost.
    pub lost: u64,
    /// How fast stacks grow that are lost or growing by their verdicts, bytes per second.
    #[serde(default)]
    pub leaking: f64,
    /// How the part that matters most has moved of late.
    pub course: Course,
    /// Address space that it has mapped itself since tracing began, without stacks.
    pub mapped_size: u64,
    /// Ranges of that.
    pub mapped_ranges: u64,
    /// Stacks of threads.
    pub stacks: ThreadStacks,
    /// Growth of page tables since tracing began.
    pub page_tables_grown: i64,
    /// Its cgroup; `None` if it has none that accounts memory.
    pub cgroup: Option<CgroupGrowth>,
    /// Children that are not traced, those that grew most first. At most 8.
    pub children: Vec<Child>,
    /// How many there are.
    pub children_found: u64,
    /// What all of them have gained.
    pub children_grown: i64,
    /// Its allocators.
    pub allocators: Vec<String>,
    /// The verdict.
    pub standing: Standing,
    /// The limit that it reaches first; `None`: none is known.
    pub limit: Option<Limit>,
    /// What was outstanding when it exited; `None`: it lives. What has ended has no rates.
    #[serde(default)]
    pub ended: Option<Amount>,
    /// What stacks hold that are lost or growing by their verdicts.
    #[serde(default)]
    pub growing: Amount,
    /// How much longer its memory has to be looked at for a verdict, about.
    #[serde(default)]
    pub lacks: Duration,
    /// The unexplained growth that is in memory mapped before tracing began, as far as that is known.
    #[serde(default)]
    pub filled: u64,
    /// Its memory over the session; of many processes, only those that have grown most have that.
    #[serde(default)]
    pub weights: Vec<Weight>,
    /// Why not all blocks are counted; `None`: they are.
    #[serde(default)]
    pub uncounted: Option<Uncounted>,
    /// For how long its memory has been as it is now.
    #[serde(default)]
    pub flat: Duration,
}

/// Growth of page tables that is worth a word, bytes.
const TABLES: i64 = 1 << 20;

impl Balance {
    /// Whether page tables have grown by more than the memory that they map.
    #[must_use]
    pub fn is_of_page_tables(&self) -> bool {
        self.page_tables_grown >= TABLES && self.page_tables_grown as f64 > self.grown.total
    }
}
