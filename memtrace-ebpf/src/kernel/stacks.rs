//! The table of stacks: a slot for each stack, cache and size, found by hash, with its counts. Behind them are slots for
//! objects whose stack found no slot.

use aya_ebpf::helpers::generated::bpf_ringbuf_output;
use memtrace_common::{
    EventKind, KERNEL_FRAMES, KernelCounter, KernelKind, KernelSlot, KernelStackEvent, NAMELESS, NO_CACHE,
    STACK_PROBES, STACK_TABLE_FULL,
};

use crate::{
    atomic, bounded, caches, config,
    maps::{EVENTS, STACKS, count},
    types::Scratch,
};

#[inline(always)]
fn slot(index: u32) -> Option<*mut KernelSlot> {
    STACKS.get_ptr_mut(index)
}

/// Whether the slot belongs to one stack, not to objects whose stack found no slot.
#[inline(always)]
pub(crate) fn has_frames(index: u32) -> bool {
    index != STACK_TABLE_FULL && index <= config::STACK_MASK.load()
}

/// Whether the slot holds the stack with this hash.
#[inline(always)]
pub(crate) fn is(index: u32, hash: u64) -> bool {
    // SAFETY: points to a value of STACKS.
    slot(index).is_some_and(|place| unsafe { (&raw const (*place).hash).read_volatile() } == hash)
}

/// The slot of the stack in `scratch`, whose frames are sent to the agent when they are new to it. If the table is full: the
/// slot of all objects of the same kind, cache and size. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn intern(scratch: *mut Scratch) -> u32 {
    if scratch.is_null() {
        return STACK_TABLE_FULL;
    }
    // SAFETY: not null, and the verifier knows its size; `place` points to a value of STACKS.
    unsafe {
        let mask = config::STACK_MASK.load();
        let index = find(scratch, (*scratch).event.hash, 0, mask);
        if index == STACK_TABLE_FULL {
            count(KernelCounter::StackTableFull, 1);
            return find(scratch, (*scratch).origin.seed | 1, mask + 1, NAMELESS - 1);
        }
        let Some(place) = slot(index) else { return STACK_TABLE_FULL };
        if (&raw const (*place).sent).read_volatile() == 0 && send(scratch, index) == 0 {
            (&raw mut (*place).sent).write_volatile(1);
        }
        index
    }
}

/// The slot with this hash among the `mask` + 1 from `first` on, claimed if there is none.
///
/// # Safety
/// `scratch` was claimed.
#[inline(always)]
unsafe fn find(scratch: *mut Scratch, hash: u64, first: u32, mask: u32) -> u32 {
    for probe in 0..STACK_PROBES {
        let index = first + (((hash >> 32) as u32).wrapping_add(probe) & mask);
        if index == STACK_TABLE_FULL {
            continue;
        }
        let Some(place) = slot(index) else { break };
        // SAFETY: points to a value of STACKS.
        unsafe {
            let mut found = (&raw const (*place).hash).read_volatile();
            if found == 0 {
                match atomic::compare_exchange(&raw mut (*place).hash, 0, hash) {
                    Ok(()) => {
                        stack_fill(scratch, index);
                        found = hash;
                    }
                    Err(other) => found = other,
                }
            }
            if found == hash {
                return index;
            }
        }
    }
    STACK_TABLE_FULL
}

/// Writes what the slot is for. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stack_fill(scratch: *mut Scratch, index: u32) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    let Some(place) = slot(index) else { return 1 };
    // SAFETY: not null, and the verifier knows its size; `place` points to a value of STACKS.
    unsafe {
        let origin = (*scratch).origin;
        let mut cache = origin.cache;
        // Objects of more than two pages come from the page allocator.
        if cache == 0 && origin.kind == KernelKind::Slab as u32 && origin.size <= 8192 {
            cache = caches::of(origin.address);
        }
        (*place).kind = origin.kind;
        (*place).cache = if cache == 0 { NO_CACHE } else { caches::index(cache) };
        let size = if origin.size == 0 { caches::object_size(cache) } else { origin.size };
        (&raw mut (*place).size).write_volatile(size);
    }
    0
}

/// Sends the frames to the agent; 0 on success. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn send(scratch: *mut Scratch, slot: u32) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    // SAFETY: not null, and the verifier knows the size of what it points to; the length is bounded by
    // that of the event.
    unsafe {
        let event = &raw mut (*scratch).event;
        (*event).kind = EventKind::KernelStack as u32;
        (*event).slot = slot;
        let frames = bounded(u64::from((*event).frames));
        if frames > KERNEL_FRAMES as u64 {
            return 1;
        }
        let length = KernelStackEvent::HEADER as u64 + 8 * frames;
        let taken = bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), event.cast(), length, 0);
        if taken == 0 {
            return 0;
        }
    }
    count(KernelCounter::RingFull, 1);
    1
}

/// Counts an object in.
#[inline(always)]
pub(crate) fn add(index: u32) {
    if let Some(place) = slot(index) {
        // SAFETY: points to a value of STACKS.
        unsafe { atomic::add(&raw mut (*place).allocated, 1) };
    }
}

/// Counts an object out: it was freed.
#[inline(always)]
pub(crate) fn subtract(index: u32) {
    if let Some(place) = slot(index) {
        // SAFETY: points to a value of STACKS.
        unsafe { atomic::add(&raw mut (*place).freed, 1) };
    }
}

/// Counts an object out whose free was not seen.
#[inline(always)]
pub(crate) fn miss(index: u32) {
    count(KernelCounter::MissedFrees, 1);
    if let Some(place) = slot(index) {
        // SAFETY: points to a value of STACKS.
        unsafe { atomic::add(&raw mut (*place).missed, 1) };
    }
}

/// Counts an object out that was found to be free.
#[inline(always)]
pub(crate) fn evict(index: u32) {
    if let Some(place) = slot(index) {
        // SAFETY: points to a value of STACKS.
        unsafe { atomic::add(&raw mut (*place).evicted, 1) };
    }
}

/// Counts an object that the table of live objects had no room for.
#[inline(always)]
pub(crate) fn untracked(index: u32) {
    count(KernelCounter::LiveMapFull, 1);
    if let Some(place) = slot(index) {
        // SAFETY: points to a value of STACKS.
        count(KernelCounter::LiveMapFullBytes, unsafe { (&raw const (*place).size).read_volatile() });
    }
}
