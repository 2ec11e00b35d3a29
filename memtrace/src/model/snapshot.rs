//! What one report shows.

use std::{sync::Arc, time::Duration};

use super::{
    Overhead,
    kernel::{KernelReport, KernelRow},
};

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
}

/// What kind of thing is traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetKind {
    /// One or more user processes.
    Process,
    /// The kernel.
    Kernel,
}

/// What is traced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// Process or kernel.
    pub kind: TargetKind,
    /// The traced processes.
    pub pids: Vec<u32>,
    /// The command name of the first one, as the kernel has it (at most 15 bytes).
    pub comm: String,
    /// The allocators found in them, by name (`glibc`).
    pub allocators: Vec<String>,
}

/// How stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackMethod {
    /// By call frame information (DWARF), whatever the code was built with.
    Cfi,
    /// By following frame pointers.
    FramePointer,
    /// By the kernel's own unwinder.
    Kernel,
}

/// Which blocks are in the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Allocations of at least so many bytes are tracked.
    pub min_size: Option<u64>,
    /// Allocations of at most so many bytes are tracked.
    pub max_size: Option<u64>,
    /// Blocks of at least this age are shown.
    pub older: Option<Duration>,
}

/// How far an estimate may be off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Uncertainty {
    /// Half the width of an interval that holds the true bytes with a probability of 95 % at least.
    pub bytes: u64,
    /// The same of blocks.
    pub blocks: u64,
    /// Blocks that the estimate rests on.
    pub samples: u64,
}

/// When probes were in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attachment {
    /// The part of the time since tracing began in which allocations were seen, 0 to 1.
    pub share: f64,
    /// How often they ceased to be.
    pub gaps: u64,
    /// Blocks that were allocated and freed in windows, whenever the latter were allocated; `None` without windows.
    pub windows: Option<(u64, u64)>,
    /// Whether a window is open: the blocks allocated in it that were not watched long enough yet are in no amount that is
    /// outstanding, but among those allocated and freed.
    pub open: bool,
}

/// How the figures came about.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mode {
    /// Mean number of bytes between two samples, of those taken last; `None` when there are none among the figures.
    pub sample_bytes: Option<u64>,
    /// Whether samples are taken now; else every allocation is counted that is seen.
    pub sampling: bool,
    /// Whether there was neither a sample nor a gap since tracing began.
    pub exact: bool,
    /// When allocations were seen.
    pub attached: Attachment,
    /// How stacks are taken.
    pub stacks: StackMethod,
    /// Which blocks are in the figures.
    pub filter: Filter,
}

/// How old the oldest block of a stack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The age, to about 4 ms.
    pub age: Duration,
    /// Whether that is the age of a block, or only a bound that no live block exceeds.
    pub exact: bool,
}

/// One block that was not freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LiveBlock {
    /// Its address in the target.
    pub address: u64,
    /// Its size in bytes, as requested.
    pub size: u64,
    /// Time since it was allocated, to about 4 ms.
    pub age: Duration,
}

/// One frame of a stack, symbolized. Frames share their texts, which a target can make long and many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The function, demangled; `None` where nothing names it.
    pub function: Option<Arc<str>>,
    /// Bytes from the function's start to the return address.
    pub function_offset: u64,
    /// The path of the file, as the target sees it, or `[anon]`, `[vdso]`.
    pub module: Arc<str>,
    /// The call site as an ELF virtual address in the module: what `addr2line -e module` takes.
    pub module_offset: u64,
    /// The source file.
    pub file: Option<Arc<str>>,
    /// The line in it.
    pub line: Option<u32>,
    /// Whether this frame was inlined into the next one.
    pub inlined: bool,
}

/// One stack and what its allocations still hold.
#[derive(Clone, Debug, PartialEq)]
pub struct StackRow {
    /// The hash of the stack's frames: the same in every report of a session.
    pub id: u64,
    /// The process; 0 for what found no place in the table of stacks.
    pub pid: u32,
    /// Not freed.
    pub outstanding: Amount,
    /// How far off that may be; `None` where every allocation is counted.
    pub uncertainty: Option<Uncertainty>,
    /// Everything allocated here since the start.
    pub allocated: Amount,
    /// Everything of that freed again.
    pub freed: Amount,
    /// Growth of the outstanding bytes since the previous report, in bytes per second.
    pub bytes_per_second: f64,
    /// The age of the oldest outstanding block.
    pub oldest: Option<Age>,
    /// Why the walk ended before the program's entry point; `None` for a complete stack.
    pub incomplete: Option<&'static str>,
    /// Innermost first, beginning with the caller of the allocator function. Empty when the frames
    /// have not reached the agent.
    pub frames: Vec<Frame>,
    /// The blocks themselves, oldest first; only with `--show-allocs`.
    pub blocks: Vec<LiveBlock>,
    /// In kernel mode: what kind of memory.
    pub kernel: Option<KernelRow>,
}

/// One stack and the memory it mapped itself, which it still has.
#[derive(Clone, Debug, PartialEq)]
pub struct MappingRow {
    /// The hash of the stack's frames.
    pub id: u64,
    /// The process.
    pub pid: u32,
    /// Bytes of address space, and ranges they lie in.
    pub mapped: Amount,
    /// Age of the oldest range.
    pub oldest: Duration,
    /// Innermost first, beginning with the caller of `mmap`.
    pub frames: Vec<Frame>,
}

/// What the figures do not include, and what may be wrong with them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Blocks not tracked because the table of live blocks was full.
    pub live_map_full: u64,
    /// Their bytes.
    pub live_map_full_bytes: u64,
    /// Allocation calls whose return was never seen (longjmp, an exception, a cancelled thread).
    pub in_flight_lost: u64,
    /// Events that did not fit into the ring buffer. Stacks are sent again, trace lines are lost.
    pub ring_full: u64,
    /// Allocations without a stack because all walk slots of the CPU were in use.
    pub no_walk_slot: u64,
    /// Allocations not tracked because the table of threads was full.
    pub no_thread_slot: u64,
    /// Allocations whose stack found no place in the table of stacks.
    pub stack_table_full: u64,
    /// Blocks handed out again at an address that was still live: their free was not seen.
    pub missed_frees: u64,
    /// Times the kernel did not run one of the programs.
    pub kernel_missed: u64,
    /// Mapped ranges left out because a process had too many.
    pub mappings_full: u64,
    /// Their bytes.
    pub mappings_full_bytes: u64,
    /// Times that a file was read for less of its names than it has, or for none, and reports that did not wait for their
    /// names: the notes say why.
    pub names_given_up: u64,
    /// Child processes the target forked; they are not traced.
    pub children_not_traced: u64,
    /// Stacks that end early, by reason, in stacks of this report's whole table.
    pub stacks_incomplete: Vec<(&'static str, u64)>,
}

impl Losses {
    /// Whether there is nothing to report.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One report.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Wall-clock time of the report.
    pub time: jiff::Timestamp,
    /// Time since tracing began.
    pub elapsed: Duration,
    /// Whether this is the session's last report.
    pub last: bool,
    /// What is traced.
    pub target: TargetInfo,
    /// How.
    pub mode: Mode,
    /// Everything outstanding that passes the filters, over all stacks (those not shown too).
    pub outstanding: Amount,
    /// How far off that may be; `None` where every allocation is counted.
    pub uncertainty: Option<Uncertainty>,
    /// Growth of the outstanding bytes since the previous report, in bytes per second.
    pub bytes_per_second: f64,
    /// Frees of blocks that are not known: allocated before tracing began, not sampled, or while no probe was in place.
    pub unknown_frees: u64,
    /// What tracing has cost; `None` where that is not known yet.
    pub overhead: Option<Overhead>,
    /// Number of stacks with outstanding blocks that match the filters.
    pub stacks_found: usize,
    /// The first of them in the order asked for.
    pub stacks: Vec<StackRow>,
    /// Memory that the target mapped itself (`mmap`, `mremap`, `sbrk`), not through its allocator: bytes of address
    /// space, and ranges. Not among the blocks. `None` with gaps, in which too much of it is missed.
    pub mapped: Option<Amount>,
    /// The stacks that mapped most of it, largest first; as many as stacks of blocks.
    pub mappings: Vec<MappingRow>,
    /// In kernel mode: what there is besides stacks.
    pub kernel: Option<KernelReport>,
    /// What was lost.
    pub losses: Losses,
    /// Remarks for the reader: «the target exited», «it called exec», one sentence each.
    pub notes: Vec<String>,
}

/// One allocation or free, for `--trace`.
#[derive(Clone, Debug, PartialEq)]
pub struct AllocationEvent {
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
    /// The allocating stack's id; of a free too.
    pub stack: u64,
    /// The allocating stack's frames, innermost first; given once per stack, on its first line.
    pub frames: Vec<Frame>,
}

/// What a reporter is given.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A report is due.
    Snapshot(Box<Snapshot>),
    /// An allocation or a free happened (`--trace`).
    Allocation(AllocationEvent),
}
