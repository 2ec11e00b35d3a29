//! JSON for scripts: one object per line.
//!
//! The schema is defined by the structs here and nowhere else. Scripts rely on the names: add, never rename. Addresses and
//! offsets are `"0x…"` strings, as JSON numbers lose digits above 2^53; times in seconds have three decimals.

mod balance;
mod convert;
mod curve;
mod heap;
mod kernel;
mod leaks;
mod line;
mod marks;
mod triage;
mod values;
mod verdict;

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use self::line::line;
pub(super) use self::line::to_line;
use self::values::{
    hex, id, micros, optional_hex, optional_seconds, optional_share, rate, rfc3339, seconds, share,
};
use super::{Reporter, heap::HeapView};
use crate::profile::{Allocation, Dictionary, View};

/// The version of the schema.
const SCHEMA: u32 = 1;

/// The JSON format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Json;

impl Reporter for Json {
    fn has_curves(&self) -> bool {
        true
    }

    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        match HeapView::all(view) {
            Some(heaps) => heaps.iter().try_for_each(|heap| self.heap(out, heap)),
            None => line(out, &Report::new(view)),
        }
    }

    fn allocation(
        &mut self,
        out: &mut dyn io::Write,
        dictionary: &Dictionary,
        event: &Allocation,
    ) -> io::Result<()> {
        line(out, &TraceLine::new(dictionary, event))
    }
}

/// One report.
#[derive(Serialize)]
struct Report<'a> {
    /// Version of the schema: 1. Keys may be added without a new number.
    schema: u32,
    /// Wall-clock time in UTC, RFC 3339, whole seconds.
    #[serde(serialize_with = "rfc3339")]
    time: Timestamp,
    /// Seconds since tracing began.
    #[serde(serialize_with = "seconds")]
    elapsed_s: Duration,
    /// Whether this is the last report of the session.
    last: bool,
    target: Target<'a>,
    mode: ModeInfo,
    /// Everything outstanding, over all stacks, listed or not.
    outstanding: Amount,
    /// The error of `outstanding`; null if exact.
    uncertainty: Option<Uncertainty>,
    /// Growth of the outstanding bytes since the previous report.
    #[serde(serialize_with = "rate")]
    bytes_per_second: f64,
    /// Frees of unknown blocks: allocated before tracing began, not sampled, or in a gap.
    unknown_frees: u64,
    /// Null where it could not be measured.
    overhead: Option<Overhead>,
    /// Number of stacks that match the filters; `stacks` may list fewer.
    stacks_found: usize,
    stacks: Vec<Stack<'a>>,
    /// Null if such calls are too frequent to be followed.
    mappings: Option<Mappings<'a>>,
    /// The last leak check; null if there was none.
    leak_check: Option<leaks::LeakCheck>,
    /// What the memory of the first process grows by; null without a sample, and for the kernel.
    process: Option<balance::Process<'a>>,
    /// The same of all traced processes.
    processes: Vec<balance::Process<'a>>,
    /// Kernel mode only.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel: Option<kernel::Kernel<'a>>,
    /// The moments that were marked, the last 64.
    marks: Vec<marks::Mark>,
    /// The time that the report is limited to; null: to none.
    span: Option<marks::Span>,
    losses: Losses,
    /// The texts of `remarks`.
    notes: Vec<String>,
    /// What else the reader should know: each with its `key`, its values, and a sentence, `text`.
    remarks: Vec<Value>,
}

/// Memory that the target mapped itself, apart from blocks.
#[derive(Serialize)]
struct Mappings<'a> {
    /// Bytes of address space.
    bytes: u64,
    /// Ranges they lie in.
    ranges: u64,
    /// The stacks that mapped most.
    stacks: Vec<MappingStack<'a>>,
}

/// One stack and what it mapped.
#[derive(Serialize)]
struct MappingStack<'a> {
    /// 16 hexadecimal digits.
    #[serde(serialize_with = "id")]
    id: u64,
    pid: u32,
    bytes: u64,
    ranges: u64,
    /// Age of the oldest range.
    #[serde(serialize_with = "seconds")]
    oldest_s: Duration,
    /// Private memory of that which is present or swapped out; null where it was not measured.
    resident_bytes: Option<u64>,
    /// `mapping` or `thread_stacks`.
    kind: &'static str,
    /// Of stacks: how many threads have ended; null for other mappings.
    ended_threads: Option<u64>,
    /// Left out where nobody asked for verdicts.
    #[serde(flatten)]
    verdict: Option<verdict::Verdict>,
    frames: Vec<Frame<'a>>,
}

/// What is traced.
#[derive(Serialize)]
struct Target<'a> {
    /// `process` or `kernel`.
    kind: &'static str,
    pids: Vec<u32>,
    /// Command name of the first process, at most 15 bytes.
    comm: &'a str,
    /// The allocators found, `glibc` for example.
    allocators: &'a [String],
    /// Allocating functions that are not traced; `exact` is then false.
    untraced: &'a [String],
}

/// How the figures came about.
#[derive(Serialize)]
struct ModeInfo {
    /// Whether nothing was sampled, missed in a gap, or allocated by a function that is not traced.
    exact: bool,
    /// Mean bytes between two samples, of those taken last; null if the figures include none.
    sample_bytes: Option<u64>,
    /// Whether samples are taken now; else every allocation seen is counted.
    sampling: bool,
    /// The part of the time in which allocations were seen, 0 to 1.
    #[serde(serialize_with = "share")]
    attached_share: f64,
    /// The number of times they were not.
    gaps: u64,
    /// Blocks allocated in windows; null without windows.
    window_allocated_blocks: Option<u64>,
    /// Blocks freed in windows, whenever they were allocated; null without windows.
    window_freed_blocks: Option<u64>,
    /// Whether a window is open: blocks allocated in it a moment ago are not among those outstanding.
    window_open: bool,
    /// How stacks are taken: `cfi`, by call frame information; `fp`, by frame pointers.
    stacks: &'static str,
    /// The minimum size of tracked allocations; null: none.
    min_size: Option<u64>,
    /// The maximum size of tracked allocations; null: none.
    max_size: Option<u64>,
    /// The minimum age of outstanding blocks; null: none.
    #[serde(serialize_with = "optional_seconds")]
    older_s: Option<Duration>,
}

/// Bytes as requested by the program, and blocks.
#[derive(Serialize)]
struct Amount {
    bytes: u64,
    blocks: u64,
}

/// Half the width of an interval that contains the true value with a probability of at least 95 %.
#[derive(Serialize)]
struct Uncertainty {
    bytes: u64,
    blocks: u64,
    /// Blocks that were sampled for the estimate.
    samples: u64,
}

/// What tracing cost since it began.
#[derive(Serialize)]
struct Overhead {
    /// Of the targets' CPU time, 0 to 1.
    #[serde(serialize_with = "share")]
    share: f64,
    /// Of one processor.
    #[serde(serialize_with = "share")]
    processors: f64,
    /// The share that is allowed; null: no limit.
    #[serde(serialize_with = "optional_share")]
    limit: Option<f64>,
    /// The share of a processor that is always allowed, however little CPU time the targets use; null: no limit.
    #[serde(serialize_with = "optional_share")]
    limit_processors: Option<f64>,
    /// CPU time that tracing took.
    #[serde(serialize_with = "seconds")]
    spent_s: Duration,
    /// CPU time of the targets, that included.
    #[serde(serialize_with = "seconds")]
    cpu_s: Duration,
    /// Calls seen.
    calls: u64,
}

/// One stack and what its allocations hold.
#[derive(Serialize)]
struct Stack<'a> {
    /// 16 hexadecimal digits, the same in every report of a session.
    #[serde(serialize_with = "id")]
    id: u64,
    /// The process; 0 for what did not fit into the table of stacks, and for several processes.
    pid: u32,
    /// Several processes (`--merge`): how many there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    processes: Option<usize>,
    /// Several processes: their pids; the verdict's grounds and the holders are of the first one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pids: Option<&'a [u32]>,
    /// Several processes: to how many of them the verdict applies.
    #[serde(skip_serializing_if = "Option::is_none")]
    processes_with_verdict: Option<usize>,
    /// Outstanding.
    bytes: u64,
    /// Outstanding.
    blocks: u64,
    /// The error of these; null if exact.
    uncertainty: Option<Uncertainty>,
    /// Since tracing began.
    allocated_bytes: u64,
    /// Since tracing began.
    allocated_blocks: u64,
    /// Of those allocated.
    freed_bytes: u64,
    /// Of those allocated.
    freed_blocks: u64,
    /// Growth of `bytes` since the previous report.
    #[serde(serialize_with = "rate")]
    bytes_per_second: f64,
    /// Age of the oldest outstanding block in seconds; null when unknown.
    #[serde(serialize_with = "optional_seconds")]
    oldest_s: Option<Duration>,
    /// Whether `oldest_s` is a block's age; false: an upper bound. Null with `oldest_s`.
    oldest_exact: Option<bool>,
    /// Whether the frames reach the program's entry point.
    complete: bool,
    /// Why not, for example `no_frame_pointer`; null for a complete stack, or if its frames were lost
    /// (`complete` is false then).
    incomplete: Option<&'static str>,
    /// Innermost first, starting at the caller of the allocator.
    frames: Vec<Frame<'a>>,
    /// The place in `frames` of the function to blame: the innermost that is neither an allocator's nor of a language's
    /// library. Missing in kernel mode and without frames.
    #[serde(skip_serializing_if = "Option::is_none")]
    culprit: Option<usize>,
    /// The blocks, oldest first; only with `--show-allocs`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allocs: Vec<Alloc>,
    /// What the last leak check found.
    #[serde(flatten)]
    leaked: Option<leaks::Leaked>,
    /// Who holds its blocks, the largest part first; only where a leak check looked for that.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held_by: Vec<leaks::Holder<'a>>,
    /// What its blocks do, and why; not in kernel mode.
    #[serde(flatten)]
    verdict: Option<verdict::Verdict>,
    /// What it held over the session; of the first stacks only.
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<curve::Curve<'a>>,
    /// Kernel mode only.
    #[serde(flatten)]
    kernel: Option<kernel::KernelStack<'a>>,
}

/// One frame.
#[derive(Serialize)]
pub(super) struct Frame<'a> {
    /// Demangled; null where nothing names it.
    function: Option<&'a str>,
    /// From the function's start to the return address; null without a function.
    #[serde(serialize_with = "optional_hex")]
    function_offset: Option<u64>,
    /// Path of the file as the target sees it.
    module: &'a str,
    /// The call site as an ELF virtual address in the module.
    #[serde(serialize_with = "hex")]
    offset: u64,
    /// Source file or null.
    file: Option<&'a str>,
    /// Line or null.
    line: Option<u32>,
    /// Whether it was inlined into the next frame.
    inlined: bool,
}

/// One outstanding block.
#[derive(Serialize)]
struct Alloc {
    #[serde(serialize_with = "hex")]
    addr: u64,
    /// Bytes.
    size: u64,
    #[serde(serialize_with = "seconds")]
    age_s: Duration,
}

/// Counts of what was lost since tracing began.
#[derive(Serialize)]
struct Losses {
    /// Blocks not tracked: the table of live blocks was full.
    live_map_full: u64,
    /// Their bytes.
    live_map_full_bytes: u64,
    /// Allocation calls never seen to return.
    in_flight_lost: u64,
    /// Events that did not fit into the ring buffer.
    ring_full: u64,
    /// Allocations without a stack: all walk slots of the CPU were in use.
    no_walk_slot: u64,
    /// Allocations not tracked: the table of threads was full.
    no_thread_slot: u64,
    /// Allocations whose stack did not fit into the table of stacks.
    stack_table_full: u64,
    /// Blocks allocated at an address that was still live.
    missed_frees: u64,
    /// Times the kernel did not run a program.
    kernel_missed: u64,
    /// Mapped ranges left out: a process had too many.
    mappings_full: u64,
    /// Their bytes.
    mappings_full_bytes: u64,
    /// Times that names in a file were given up, or that a report did not wait for names.
    names_given_up: u64,
    /// Child processes forked by the target.
    children_not_traced: u64,
    /// Stacks that end early, by reason.
    stacks_incomplete: BTreeMap<&'static str, u64>,
}

/// One allocation or free (`--trace`).
#[derive(Serialize)]
struct TraceLine<'a> {
    /// Version of the schema: 1.
    schema: u32,
    /// `alloc` or `free`; reports have no such key.
    event: &'static str,
    /// Seconds since tracing began, to the microsecond.
    #[serde(serialize_with = "micros")]
    elapsed_s: Duration,
    pid: u32,
    tid: u32,
    #[serde(serialize_with = "hex")]
    addr: u64,
    /// Bytes.
    size: u64,
    /// Id of the allocating stack, also for a free.
    #[serde(serialize_with = "id")]
    stack: u64,
    /// The stack's frames, on its first line only.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    frames: Vec<Frame<'a>>,
}
