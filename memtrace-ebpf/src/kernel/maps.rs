//! Every map. Sizes here are placeholders where the agent sets them (`map_max_entries`).
//!
//! **Invariant**: none allocates when programs write to it. An allocation here would be an event, inside an event.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, CgroupArray, HashMap, PerCpuArray, RingBuf},
    macros::btf_map,
};
use memtrace_common::{
    CACHE_NAME, Calibration, EXAMINED_AT_ONCE, Examination, Examined, KernelCache, KernelCounter, KernelSlot,
    KernelStackEvent, MAX_CACHES, ObjectBucket, PHANTOMS_AT_ONCE, Phantom,
};

use crate::types::{Scratch, Set};

const MMAPABLE: usize = BPF_F_MMAPABLE as usize;

/// Live objects. Size: `--max-live`.
#[btf_map]
pub(crate) static LIVE: Array<ObjectBucket, 1024, MMAPABLE> = Array::new();

/// Live objects whose bucket was full. Size: an eighth of `--max-live`.
#[btf_map]
pub(crate) static OVERFLOW: HashMap<u64, u64, 1024> = HashMap::new();

/// Stacks and their totals. Size: `--max-stacks`, and [`memtrace_common::NAMELESS`].
#[btf_map]
pub(crate) static STACKS: Array<KernelSlot, 1024, MMAPABLE> = Array::new();

/// Slab caches, by index. The first stands for none, and its `pointer` counts those in use.
#[btf_map]
pub(crate) static CACHES: Array<KernelCache, { MAX_CACHES as usize }, MMAPABLE> = Array::new();

/// Index of a cache by the address of its `struct kmem_cache`.
#[btf_map]
pub(crate) static CACHE_BY_POINTER: HashMap<u64, u32, { MAX_CACHES as usize }> = HashMap::new();

/// Whether a cache is tracked, by its name; those not named are.
#[btf_map]
pub(crate) static CACHE_NAMES: HashMap<[u8; CACHE_NAME], u32, { MAX_CACHES as usize }> = HashMap::new();

/// Processes that tracking is limited to.
#[btf_map]
pub(crate) static TASKS: HashMap<u32, u32, 1024> = HashMap::new();

/// The cgroup that tracking is limited to.
#[btf_map]
pub(crate) static CGROUPS: CgroupArray<1> = CgroupArray::new();

/// Stacks by the places of their return addresses.
#[btf_map]
pub(crate) static MEMO: PerCpuArray<Set, { Set::COUNT as usize }> = PerCpuArray::new();

/// Room for walks. Several, since an interrupt may come during a walk.
#[btf_map]
pub(crate) static SCRATCHES: PerCpuArray<Scratch, { Scratch::PER_CPU as usize }> = PerCpuArray::new();

/// What was lost, by [`KernelCounter`].
#[btf_map]
pub(crate) static COUNTERS: PerCpuArray<u64, { KernelCounter::COUNT as usize }> = PerCpuArray::new();

/// What the agent learns about itself.
#[btf_map]
pub(crate) static CALIBRATION: Array<Calibration, 1, MMAPABLE> = Array::new();

/// What the agent asks to be examined, and how far that got.
#[btf_map]
pub(crate) static EXAMINATION: Array<Examination, 1, MMAPABLE> = Array::new();

/// Addresses of pages, or of caches.
#[btf_map]
pub(crate) static REQUESTS: Array<u64, EXAMINED_AT_ONCE, MMAPABLE> = Array::new();

/// The results.
#[btf_map]
pub(crate) static EXAMINED: Array<Examined, EXAMINED_AT_ONCE, MMAPABLE> = Array::new();

/// Tracked objects that were found to be free.
#[btf_map]
pub(crate) static PHANTOMS: Array<Phantom, { PHANTOMS_AT_ONCE as usize }, MMAPABLE> = Array::new();

/// Stacks, to the agent. Size in bytes.
#[btf_map]
pub(crate) static EVENTS: RingBuf<KernelStackEvent, { 1 << 21 }> = RingBuf::new();

/// Adds to a counter.
#[inline(always)]
pub(crate) fn count(counter: KernelCounter, value: u64) {
    if let Some(place) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a per-CPU value; an interrupt's program may add to it at the same moment.
        unsafe { crate::atomic::add(place, value) };
    }
}
