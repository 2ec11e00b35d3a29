//! Every map. Sizes here are placeholders where the agent sets them (`map_max_entries`).

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    btf_maps::{Array, HashMap, PerCpuArray, RingBuf, StackTrace},
    macros::btf_map,
};
use memtrace_common::{
    Block, Bucket, Counter, Lifetimes, MAX_TARGETS, Module, Row, StackEvent, StackSlot, Target, Thread, Work,
};

use crate::types::Scratch;

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;
const NO_PREALLOC: usize = BPF_F_NO_PREALLOC as usize;

/// Live blocks. Size: `--max-live`.
#[btf_map]
pub(crate) static LIVE: Array<Bucket, 1024, MMAPABLE> = Array::new();

/// Live blocks whose bucket was full. Size: an eighth of `--max-live`.
#[btf_map]
pub(crate) static OVERFLOW: HashMap<u64, Block, 1024, NO_PREALLOC> = HashMap::new();

/// Stacks and their totals. Size: `--max-stacks`.
#[btf_map]
pub(crate) static STACKS: Array<StackSlot, 1024, MMAPABLE> = Array::new();

/// Lifetimes of the blocks of each stack that were freed. Size: that of `STACKS`, or 1 without them.
#[btf_map]
pub(crate) static LIFETIMES: Array<Lifetimes, 1, MMAPABLE> = Array::new();

/// Calls in flight, by thread.
#[btf_map]
pub(crate) static THREADS: Array<Thread, 16384> = Array::new();

/// Traced processes, by index.
#[btf_map]
pub(crate) static TARGETS: Array<Target, { MAX_TARGETS as usize }, MMAPABLE> = Array::new();

/// Executable mappings of targets, each target's in order of address. Size: set by the agent.
#[btf_map]
pub(crate) static MODULES: Array<Module, 512, MMAPABLE> = Array::new();

/// Unwind rows of files, each file's in order of address. Size: set by the agent.
#[btf_map]
pub(crate) static ROWS: Array<Row, 1024, MMAPABLE> = Array::new();

/// Rules by address, in front of the two above: a word each, see [`memtrace_common::cache`].
#[btf_map]
pub(crate) static CACHE: Array<u64, 1024, MMAPABLE> = Array::new();

/// Index of a traced process by its tgid, for the life-cycle tracepoints.
#[btf_map]
pub(crate) static TARGET_BY_TGID: HashMap<u32, u32, { MAX_TARGETS as usize }> = HashMap::new();

/// Processes that descend from targets and may not be traced yet, by tgid: the index of the target. Only filled with
/// `FOLLOW`; those that find no room are found by the agent, if they live long enough.
#[btf_map]
pub(crate) static DESCENDANTS: HashMap<u32, u32, 4096, NO_PREALLOC> = HashMap::new();

/// What was lost, by [`Counter`].
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();

/// What the programs themselves did, on each CPU.
#[btf_map]
pub(crate) static WORK: PerCpuArray<Work, 1> = PerCpuArray::new();

/// Room for walks. A program can be preempted by another thread's on its CPU: hence several.
#[btf_map]
pub(crate) static SCRATCHES: PerCpuArray<Scratch, { Scratch::PER_CPU as usize }> = PerCpuArray::new();

/// Stacks as the kernel takes them, to compare with. Size: set by the agent.
#[btf_map]
pub(crate) static KERNEL_STACKS: StackTrace<1> = StackTrace::new();

/// Stacks, trace lines and life-cycle events, to the agent. Size in bytes.
#[btf_map]
pub(crate) static EVENTS: RingBuf<StackEvent, { 1 << 20 }> = RingBuf::new();

/// Adds to a counter.
#[inline(always)]
pub(crate) fn count(counter: Counter, value: u64) {
    if let Some(place) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU value; preemption between read and write can lose a count only when two
        // programs on one CPU lose an event at the same moment, so add atomically.
        unsafe { crate::atomic::add(place, value) };
    }
}
