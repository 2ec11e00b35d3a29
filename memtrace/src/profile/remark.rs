//! What the reader of a report should know besides figures: values, which `report` words.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{OutOfMemory, Pace, Share, Sign, StringId};

/// One thing that the reader should know.
///
/// In JSON its key is its name in snake case with its values beside it. Texts named `error` are
/// errors of this program or of the system, as they are worded there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(clippy::missing_docs_in_private_items, reason = "the variant says what its values are")]
pub enum Remark {
    /// The kernel rejects the programs that walk stacks by call frame information.
    FramePointersOnly,
    /// No budget is kept: the price of a probe could not be measured.
    PricesUnknown { error: String },
    /// Allocations are counted in another way, to stay within the budget.
    PaceChanged { since: Duration, pace: Pace, limit: Share },
    /// Tracing cost far more than the budget allows.
    Detached { at: Duration, took: Share, limit: Share, pace: Pace },
    /// The budget is too small to trace this target at all.
    OverBudget { limit: f64 },
    /// Allocating functions are not traced.
    FunctionsUntraced { pid: u32, functions: Vec<String> },
    /// The user named functions that no file of a process defines.
    FunctionsNotFound { pid: u32, functions: Vec<String> },
    /// A process grows by what is not traced, and has functions that look like an allocator's and are not traced either;
    /// `more`: besides those named.
    AllocatorsUntraced { pid: u32, functions: Vec<String>, more: usize },
    /// A process has a language runtime with a heap of its own, whose objects are not seen one by one.
    HeapOfRuntime { pid: u32, runtime: Runtime },
    /// Probes could not be attached; `retried`: memtrace will retry.
    AttachRefused { pid: u32, what: String, error: String, tries: u32, retried: bool },
    /// Probes could be attached only after a failure.
    AttachedLate { pid: u32, what: String, error: String, since: Duration },
    /// Older blocks are shown as this old.
    AgesLimited { days: u64 },
    /// Processes have exited.
    Exited { pids: Vec<u32> },
    /// Processes that descend from targets are traced too, `exited` of which are no longer shown. `refused` cannot be;
    /// `without_allocator` are, but have no allocator that is known.
    Followed { followed: u64, exited: u64, refused: u64, without_allocator: u64 },
    /// Of a command and what it started, only the command, `pid`, was checked for leaks, at its end: `others` were not.
    CheckedAlone { pid: u32, others: u64 },
    /// A process that was to be traced has no allocator that is known.
    NoAllocator { pid: u32 },
    /// A process has mapped so many ranges that neighbours were joined.
    RangesJoined,
    /// A window is open: blocks allocated in it less than `watch` ago are left out.
    WindowOpen { watch: Duration },
    /// No window ran since the previous report.
    NoWindow,
    /// A process runs another program.
    Exec { pid: u32, comm: String, times: u32, at: Duration, by_thread: bool },
    /// The thread that holds the probes has ended, and no other one holds them.
    ProbesUnheld { pid: u32, error: String },
    /// The kernel does not restore breakpoints.
    BreakpointsMissing { pid: u32, missing: usize, all: usize },
    /// A process runs from a copy of its code.
    CodeCopied { pid: u32, copied: usize, all: usize },
    /// Functions that map memory are called so often that they are no longer traced.
    MappingsTooFrequent { at: Duration },
    /// Probes no longer fired.
    AttachedAnew { pid: u32, times: usize, at: Duration, why: Renewal, gap: Duration },
    /// Checking a process for leaks would take too much of the agent's CPU time.
    LeakCheckDeclined { pid: u32, bytes: u64, cpu: Duration },
    /// A process cannot be checked for leaks.
    LeakCheckFailed { pid: u32, error: String },
    /// Windows are too short for a leak check.
    NoLeakCheckInWindows { pid: u32 },
    /// So many blocks look lost that something which holds them must have been overlooked.
    RootMissing { pid: u32, lost: u64, checked: u64 },
    /// Memory is about to run out, so this report is out of turn. `cgroup`: whose limit is nearest; `None`: the whole
    /// machine's. `pressure_of`: with [`Sign::Pressure`], the cgroup whose tasks wait; `None`: those of the machine.
    EarlySign {
        pid: u32,
        at: Duration,
        sign: Sign,
        cgroup: Option<String>,
        used: Option<f64>,
        limit_bytes: Option<u64>,
        #[serde(default)]
        pressure_of: Option<String>,
    },
    /// A signal has ended a process; `out_of_memory`: by the OOM killer. `core`: whether it dumped its memory.
    Killed {
        pid: u32,
        comm: String,
        at: Duration,
        signal: u32,
        core: bool,
        out_of_memory: Option<OutOfMemory>,
    },
    /// The OOM killer has taken a process that is not traced, of the same cgroup or for want of the machine's memory.
    AnotherKilled { pid: u32, comm: String, at: Duration, out_of_memory: OutOfMemory },
    /// memtrace uses the memory of a cgroup with a limit that the process is in too.
    AgentInCgroup { pid: u32, cgroup: String, limit_bytes: u64 },
    /// Blocks that looked lost were freed later.
    LostFreedLater { pid: u32, blocks: u64 },
    /// A file's unwind table did not fit into the kernel side.
    NoUnwindTable { file: String },
    /// Executable mappings did not fit into the kernel side.
    MappingsLeftOut { mappings: u64 },
    /// Something of a file cannot be used for names.
    FileUnread { file: String, unread: Unread, problem: FileProblem },
    /// There is no room for more names.
    TooManyNames,
    /// The thread that looks up names cannot be started.
    NoNameThread { error: String },
    /// The thread that looks up names has ended.
    NameThreadEnded,
    /// The process that reads files cannot be started.
    NoReader { error: String },
    /// The process that reads files has kept a privilege.
    ReaderPrivileged { kept: String },
    /// Frames whose names did not arrive in time.
    NamesLate { frames: u64 },
    /// Memory of the whole machine that the traced kinds leave out has grown since tracing began.
    LeftOut { what: LeftOut, grown: u64, also: Option<u64>, option: Option<String> },
    /// The kernel has no tracepoints for a kind of memory.
    KindUntraced { kind: super::MemoryKind },
    /// The caches of kmalloc's objects cannot be determined.
    CachesUnknown,
    /// The kernel's lists of free objects cannot be read.
    SlabsUnreadable,
    /// The kernel hides its addresses.
    AddressesHidden,
    /// /proc/slabinfo cannot be read.
    SlabinfoUnreadable { error: String },
    /// Objects were freed unseen, and found free.
    FreedUnseen { caches: Vec<CacheNumber>, more: usize },
    /// Objects were freed unseen, judging by the number of objects in use.
    FreedByNumber { caches: Vec<CacheNumber>, more: usize },
    /// Objects that could not be looked up.
    Unverified { caches: Vec<CacheNumber>, more: usize },
}

impl Remark {
    /// The caches that it is about.
    #[must_use]
    pub fn caches(&self) -> &[CacheNumber] {
        match self {
            Self::FreedUnseen { caches, .. }
            | Self::FreedByNumber { caches, .. }
            | Self::Unverified { caches, .. } => caches,
            _ => &[],
        }
    }
}

/// Memory that kernel mode may leave out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// Slabs.
    Slab,
    /// Pages that drivers, sockets and pipes took.
    Pages,
    /// Page tables.
    PageTables,
    /// Per-CPU memory.
    Percpu,
    /// Areas of virtually contiguous memory.
    Vmalloc,
    /// Shared memory and tmpfs.
    SharedMemory,
    /// Segments of System V shared memory.
    Segments,
    /// What is queued in sockets.
    Sockets,
}

/// A language runtime with a heap of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Runtime {
    /// CPython with pymalloc.
    Python,
    /// V8: node.
    V8,
    /// A Java virtual machine.
    Jvm,
    /// Ruby.
    Ruby,
}

/// Why probes were reattached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Renewal {
    /// The thread that held them ended.
    ThreadEnded,
    /// Their breakpoints were no longer in the code.
    Removed,
    /// The file that they are in has other contents.
    Rewritten,
}

/// What of a file is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unread {
    /// Its debug file.
    DebugFile,
    /// Its debug information.
    DebugInfo,
    /// Parts of that.
    PartOfDebugInfo,
    /// Its symbols.
    Symbols,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileProblem {
    /// Reading it takes too long.
    TooSlow {
        /// The limit.
        seconds: u64,
    },
    /// The process that reads files ended while it read this one.
    ReaderEnded,
    /// The debug file belongs to another build.
    OtherBuild {
        /// Its path.
        path: String,
    },
    /// It cannot be read.
    Unreadable {
        /// The error.
        error: String,
    },
    /// It is damaged or too large.
    Refused {
        /// The error.
        error: String,
    },
}

/// A cache and how many of its objects a remark is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CacheNumber {
    /// The cache; `None`: kmalloc's objects whose cache is unknown.
    pub cache: Option<StringId>,
    /// The objects that the remark is about.
    pub number: u64,
    /// All tracked objects of the cache.
    pub all: u64,
}
