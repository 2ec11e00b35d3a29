//! What two snapshots tell.

use std::time::Duration;

use super::{BoundKind, KernelLog, Owner, Part, Place, Snapshot};

/// Growth in one place.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// Where.
    pub place: Place,
    /// Bytes now.
    pub bytes: u64,
    /// Of how many things now.
    pub count: u64,
    /// Bytes more than at the beginning.
    pub grown: i64,
    /// Bytes per second.
    pub rate: f64,
    /// Whether `grown` is an upper bound: what was there at the beginning is not known.
    pub at_most: bool,
}

/// A limit that is approached.
#[derive(Clone, Debug, PartialEq)]
pub struct Bounded {
    /// Which.
    pub kind: BoundKind,
    /// Bytes.
    pub bytes: u64,
    /// Bytes used that cannot be given up.
    pub used: u64,
    /// Growth of that, bytes per second.
    pub rate: f64,
    /// When it is reached if that goes on; `None`: it does not grow.
    pub reached_in: Option<Duration>,
}

/// Whom the OOM killer would take now.
#[derive(Clone, Debug, PartialEq)]
pub struct Victim {
    /// The process.
    pub owner: Owner,
    /// Its `oom_score`.
    pub score: u64,
    /// Its resident set, bytes.
    pub rss: u64,
    /// Inside of which cgroup; `None`: of all processes.
    pub cgroup: Option<String>,
    /// Whether it is the process that grows; `None`: no process does.
    pub is_grower: Option<bool>,
}

/// What the mappings of a process look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// Ranges of one size below a guard each, as stacks of threads are.
    Stacks {
        /// How many.
        count: u64,
        /// Bytes of each, without the guard.
        each: u64,
        /// Bytes of them in memory.
        rss: u64,
        /// Living threads of the process.
        threads: u64,
        /// Whether more of them have no thread than the C library keeps: threads ended and were never joined.
        unjoined: bool,
    },
    /// Arenas of glibc: 64 MiB each.
    Arenas {
        /// How many.
        count: u64,
        /// Bytes of them in memory.
        rss: u64,
    },
    /// Anonymous ranges of one size.
    Ranges {
        /// How many.
        count: u64,
        /// Bytes of each.
        each: u64,
        /// Bytes of them in memory.
        rss: u64,
    },
}

/// A process that was looked at closely.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// Who.
    pub owner: Owner,
    /// Its parent, if that is a process with memory of its own.
    pub parent: Option<Owner>,
    /// Children of that parent that grew too, without this one, and what they gained together, bytes.
    pub siblings: (u64, i64),
    /// Growth of its address space, bytes.
    pub size_grown: i64,
    /// What its mappings look like.
    pub patterns: Vec<Pattern>,
}

/// A command that shows more, ready to be pasted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStep {
    /// `memtrace attach PID`.
    Attach(u32),
    /// `memtrace scan PID`.
    Scan(u32),
    /// `memtrace kernel --cache NAME`.
    Cache(String),
    /// `memtrace kernel` with the option for a kind of memory.
    Kernel(&'static str),
    /// The largest files of a mount point.
    LargestFiles(String),
    /// More room in a tmpfs: its mount point and the size, bytes.
    Remount(String, u64),
    /// Sizes of every tmpfs.
    TmpfsSizes,
    /// The descriptors of a process.
    Descriptors(u32),
    /// What the kernel allocates while a process runs.
    KernelFor(u32),
    /// What sockets hold, and whose they are.
    Sockets,
    /// Who made segments: `ipcs -m -p`, and how to remove one that nobody uses.
    Segments,
    /// How many inotify watches each descriptor of a process has.
    Watches(u32),
    /// Pools of huge pages: how many there are, are free and reserved.
    HugePages,
    /// What devices of zram hold and take.
    Zram,
    /// Where swap is.
    Swaps,
    /// A longer interval.
    Longer,
}

/// The memory of the machine: what it is, what grew, and what comes next.
#[derive(Clone, Debug, PartialEq)]
pub struct Triage {
    /// Time between the two snapshots.
    pub span: Duration,
    /// The later one.
    pub now: Snapshot,
    /// Its parts, and the growth of each in bytes.
    pub parts: Vec<(Part, i64)>,
    /// Bytes that the parts add up to.
    pub sum: u64,
    /// What grew, the most first; without page cache, which the kernel gives up.
    pub grown: Vec<Growth>,
    /// What holds the most.
    pub largest: Vec<Growth>,
    /// Limits, those that are reached first at the beginning.
    pub bounds: Vec<Bounded>,
    /// Whom the OOM killer would take; of the cgroup whose limit is nearest, if one is.
    pub victims: Vec<Victim>,
    /// Processes that were looked at closely.
    pub suspects: Vec<Suspect>,
    /// What to do next.
    pub next: Vec<NextStep>,
    /// What the kernel said.
    pub log: KernelLog,
}

impl Suspect {
    /// Stacks of threads that were never joined, if its mappings look so.
    #[must_use]
    pub fn unjoined(&self) -> Option<&Pattern> {
        self.patterns.iter().find(|pattern| matches!(pattern, Pattern::Stacks { unjoined: true, .. }))
    }
}
