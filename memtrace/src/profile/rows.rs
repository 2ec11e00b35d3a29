//! Rows of a profile, and how the figures of processes came about.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Balance, Curves, Holder, KernelDetail, Kind, LeakCheck, Leaked, Merged, Overhead, Reason, StackId,
    Verdict,
};

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Bytes as requested by the program, without the allocator's rounding.
    pub bytes: u64,
    /// Number of blocks.
    pub blocks: u64,
}

impl Amount {
    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            blocks: self.blocks.saturating_add(other.blocks),
        }
    }

    /// What remains without a part of it.
    #[must_use]
    pub fn minus(self, part: Self) -> Self {
        Self { bytes: self.bytes.saturating_sub(part.bytes), blocks: self.blocks.saturating_sub(part.blocks) }
    }
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// The command name, as the kernel has it (at most 15 bytes).
    pub comm: String,
}

/// The traced processes, and the figures that only processes have.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Processes {
    /// The traced processes.
    pub processes: Vec<Process>,
    /// The allocators found in them, by name (`glibc`).
    pub allocators: Vec<String>,
    /// Allocating functions that are not traced: with their modules, and why.
    pub untraced: Vec<String>,
    /// How allocations were counted.
    pub mode: Mode,
    /// The error of the outstanding amount; `None` where every allocation is counted.
    pub uncertainty: Option<Uncertainty>,
    /// What tracing has cost; `None` where that is not known yet.
    pub overhead: Option<Overhead>,
    /// Memory that the processes mapped themselves (`mmap`, `mremap`, `sbrk`), not through an allocator, by stack. It
    /// is not among the blocks. `None` if such calls are too frequent to be followed.
    pub mapped: Option<Vec<MappingRow>>,
    /// The last leak check; `None` if there was none.
    pub leak_check: Option<Box<LeakCheck>>,
    /// What the memory of each process grows by; those without a sample are left out.
    #[serde(default)]
    pub balances: Vec<Balance>,
    /// What stacks held over the session.
    #[serde(default)]
    pub curves: Box<Curves>,
}

/// How stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StackMethod {
    /// By call frame information (DWARF), however the code was built.
    Cfi,
    /// By following frame pointers.
    FramePointer,
}

/// Which blocks are in the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// The minimum size of tracked allocations.
    pub min_size: Option<u64>,
    /// The maximum size of tracked allocations.
    pub max_size: Option<u64>,
    /// The minimum age of blocks shown.
    pub older: Option<Duration>,
}

impl Filter {
    /// Of sizes, and an age; 0 and `u64::MAX` are no limits.
    #[must_use]
    pub fn new(min_size: u64, max_size: u64, older: Option<Duration>) -> Self {
        Self {
            min_size: Some(min_size).filter(|&size| size > 0),
            max_size: Some(max_size).filter(|&size| size < u64::MAX),
            older,
        }
    }
}

/// The error of an estimate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncertainty {
    /// Half the width of an interval that contains the true bytes with a probability of at least 95 %.
    pub bytes: u64,
    /// The same of blocks.
    pub blocks: u64,
    /// Blocks that were sampled for the estimate.
    pub samples: u64,
}

/// When probes were in place.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attachment {
    /// The part of the time since tracing began in which allocations were seen, 0 to 1.
    pub share: f64,
    /// The number of times they were not.
    pub gaps: u64,
    /// Blocks allocated in windows, and blocks of any age freed in them; `None` without windows.
    pub windows: Option<(u64, u64)>,
    /// Whether a window is open: blocks allocated in it that have not been watched long enough are not counted as
    /// outstanding, but as allocated and freed.
    pub open: bool,
}

/// How the figures of processes came about.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mode {
    /// Mean number of bytes between two samples, of those taken last; `None` if the figures include none.
    pub sample_bytes: Option<u64>,
    /// Whether samples are taken now; otherwise every allocation seen is counted.
    pub sampling: bool,
    /// Whether nothing was sampled, missed in a gap, or left out because its function is not traced, since tracing began.
    pub exact: bool,
    /// When allocations were seen.
    pub attached: Attachment,
    /// How stacks are taken.
    pub stacks: StackMethod,
}

impl Mode {
    /// Whether something was left out other than by sampling and in gaps: a function that is not traced.
    #[must_use]
    pub fn leaves_code_out(&self) -> bool {
        !self.exact && self.sample_bytes.is_none() && self.attached.gaps == 0
    }
}

/// How old the oldest block of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Age {
    /// The age, to about 4 ms.
    pub age: Duration,
    /// Whether that is the age of a block; otherwise it is an upper bound.
    pub exact: bool,
}

/// One block that was not freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveBlock {
    /// Its address in the target.
    pub address: u64,
    /// Its size in bytes, as requested.
    pub size: u64,
    /// Time since it was allocated, to about 4 ms.
    pub age: Duration,
}

/// One stack and what its allocations still hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The hash of the stack's frames: the same in every report of a session.
    pub id: u64,
    /// The stack; `None` if its frames have not reached the agent.
    pub stack: Option<StackId>,
    /// Not freed.
    pub outstanding: Amount,
    /// Everything allocated here since the start.
    pub allocated: Amount,
    /// The part of that freed again.
    pub freed: Amount,
    /// Growth of the outstanding bytes since the previous report, in bytes per second.
    pub bytes_per_second: f64,
    /// The age of the oldest outstanding block.
    pub oldest: Age,
    /// Why frames are missing; `None` for a complete stack.
    pub incomplete: Option<Reason>,
    /// What the last leak check found; `None` if there was none.
    pub leaked: Option<Leaked>,
    /// Who holds its blocks, as far as a leak check looked for that: the largest part first.
    pub held_by: Vec<Holder>,
    /// The blocks themselves, oldest first; only with `--show-allocs`, and only of rows that are shown.
    pub blocks: Vec<LiveBlock>,
    /// What only rows of this kind of target have.
    pub detail: Detail,
    /// What its blocks do; `None` where nobody wants to know, and for the kernel's.
    #[serde(default)]
    pub verdict: Option<Box<Verdict>>,
    /// The processes, if it is made of rows of several; `None` in all profiles but those made for `--merge`.
    #[serde(skip)]
    pub merged: Option<Box<Merged>>,
}

/// What a row has besides its amounts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Detail {
    /// Blocks of a process.
    Process {
        /// The process; 0 for what did not fit into the table of stacks.
        pid: u32,
        /// The error of the outstanding amount; `None` where every allocation is counted.
        uncertainty: Option<Uncertainty>,
    },
    /// Objects of the kernel.
    Kernel(KernelDetail),
}

impl Row {
    /// The process; 0 where there is none, or several.
    #[must_use]
    pub fn pid(&self) -> u32 {
        match self.detail {
            Detail::Process { pid, .. } => pid,
            Detail::Kernel(_) => 0,
        }
    }

    /// Whether it is of a process, alone or with others.
    #[must_use]
    pub fn is_of(&self, pid: u32) -> bool {
        self.pid() == pid || self.merged.as_ref().is_some_and(|merged| merged.pids.contains(&pid))
    }

    /// Whether its verdict is about a process, alone or with others.
    #[must_use]
    pub fn judges(&self, pid: u32) -> bool {
        self.pid() == pid || self.merged.as_ref().is_some_and(|merged| merged.alike.contains(&pid))
    }

    /// Whether the verdict is steady or start-up, and no leak check found blocks lost here.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        let settled = self.verdict.as_deref().is_some_and(|verdict| verdict.kind().is_settled());
        settled && self.loss() == (0, 0)
    }

    /// Whether the verdict is lost or growing, or a leak check found blocks lost here.
    #[must_use]
    pub fn is_leaking(&self) -> bool {
        let kind = self.verdict.as_deref().map(Verdict::kind);
        matches!(kind, Some(Kind::Lost | Kind::Growing)) || self.loss() != (0, 0)
    }

    /// Bytes whose loss is this stack's, by the last leak check, and the bytes that it has lost.
    #[must_use]
    pub fn loss(&self) -> (u64, u64) {
        self.leaked.map_or((0, 0), |leaked| (leaked.blame(), leaked.lost.bytes))
    }

    /// The error of the outstanding amount.
    #[must_use]
    pub fn uncertainty(&self) -> Option<Uncertainty> {
        match self.detail {
            Detail::Process { uncertainty, .. } => uncertainty,
            Detail::Kernel(_) => None,
        }
    }

    /// What only rows of the kernel have.
    #[must_use]
    pub fn kernel(&self) -> Option<&KernelDetail> {
        match &self.detail {
            Detail::Process { .. } => None,
            Detail::Kernel(detail) => Some(detail),
        }
    }
}

/// One stack and the memory that it mapped itself and still holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MappingRow {
    /// The hash of the stack's frames.
    pub id: u64,
    /// The process.
    pub pid: u32,
    /// The stack, beginning with the caller of `mmap`; `None` if its frames have not reached the agent.
    pub stack: Option<StackId>,
    /// Bytes of address space, and ranges they lie in.
    pub mapped: Amount,
    /// Age of the oldest range.
    pub oldest: Duration,
    /// The part that is in memory or swapped out, bytes; `None`: not measured.
    #[serde(default)]
    pub resident: Option<u64>,
    /// What it is for.
    #[serde(default)]
    pub used_for: MappingUse,
    /// What its mappings do; `None` where nobody wants to know.
    #[serde(default)]
    pub verdict: Option<Box<Verdict>>,
}

impl MappingRow {
    /// Bytes that count: those in memory, or all of the address space where that was not measured.
    #[must_use]
    pub fn in_memory(&self) -> u64 {
        self.resident.unwrap_or(self.mapped.bytes)
    }

    /// The part of the address space that is in memory, 0 to 1.
    #[must_use]
    pub fn resident_share(&self) -> f64 {
        (self.in_memory() as f64 / self.mapped.bytes.max(1) as f64).min(1.0)
    }

    /// Whether the verdict is steady or start-up.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.verdict.as_deref().is_some_and(|verdict| verdict.kind().is_settled())
    }
}

/// What a mapping is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MappingUse {
    /// Whatever the program wants.
    #[default]
    Program,
    /// Stacks of threads, mapped when they were created.
    ThreadStacks {
        /// Stacks whose threads have ended, at least.
        ended: u64,
        /// Whether those were never joined, as far as that can be told.
        unjoined: bool,
    },
}

/// One allocation or free, for `--trace`.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// Time since tracing began.
    pub elapsed: Duration,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// Allocation or free.
    pub freed: bool,
    /// The block's address.
    pub address: u64,
    /// Its size in bytes, as requested.
    pub size: u64,
    /// The allocating stack's id, also for a free.
    pub id: u64,
    /// The allocating stack, given once, on its first line.
    pub stack: Option<StackId>,
}
