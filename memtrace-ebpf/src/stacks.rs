//! The table of stacks: a slot per stack, found by hash, with its totals.

use memtrace_common::{
    Block, Counter, EventKind, LIFETIME_CLASSES, LIFETIME_FULL, STACK_PROBES, STACK_TABLE_FULL, StackEvent,
    StackSlot, lifetime_class,
};

use aya_ebpf::helpers::generated::bpf_ringbuf_output;

use crate::{
    atomic, config,
    maps::{EVENTS, LIFETIMES, STACKS, count},
    shared::bounded,
    types::Scratch,
    work::Run,
};

#[inline(always)]
fn slot(index: u32) -> Option<*mut StackSlot> {
    STACKS.get_ptr_mut(index & config::STACK_MASK.load())
}

/// The slot of the stack in `scratch`, whose frames are sent to the agent when they are new to it.
///
/// # Safety
/// `scratch` was claimed.
#[inline(always)]
pub(crate) unsafe fn intern(scratch: *mut Scratch) -> u32 {
    // SAFETY: by the contract above; `place` points to a value of STACKS.
    unsafe {
        let hash = (*scratch).event.hash;
        let index = (hash >> 32) as u32 & config::STACK_MASK.load();
        if let Some(place) = slot(index)
            && (&raw const (*place).hash).read_volatile() == hash
            && (&raw const (*place).sent).read_volatile() != 0
        {
            return index;
        }
    }
    stacks_intern(scratch)
}

/// The same for a stack that is new, or not in its first place. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn stacks_intern(scratch: *mut Scratch) -> u32 {
    if scratch.is_null() {
        return STACK_TABLE_FULL;
    }
    // SAFETY: not null, and the verifier knows its size; `place` points to a value of STACKS.
    unsafe {
        let hash = (*scratch).event.hash;
        for probe in 0..STACK_PROBES {
            let index = ((hash >> 32) as u32).wrapping_add(probe) & config::STACK_MASK.load();
            if index == STACK_TABLE_FULL {
                continue;
            }
            let Some(place) = slot(index) else { break };
            let mut found = (&raw const (*place).hash).read_volatile();
            if found == 0 {
                match atomic::compare_exchange(&raw mut (*place).hash, 0, hash) {
                    Ok(()) => {
                        (*place).target = (*scratch).event.target;
                        found = hash;
                    }
                    Err(other) => found = other,
                }
            }
            if found == hash {
                if (&raw const (*place).sent).read_volatile() == 0 && send(scratch, index) == 0 {
                    (&raw mut (*place).sent).write_volatile(1);
                }
                return index;
            }
        }
    }
    count(Counter::StackTableFull, 1);
    STACK_TABLE_FULL
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
        (*event).kind = EventKind::Stack as u32;
        (*event).slot = slot;
        let length = bounded(StackEvent::HEADER as u64 + 8 * u64::from((*event).frames));
        if length > size_of::<StackEvent>() as u64 {
            return 1;
        }
        let taken = bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), event.cast(), length, 0);
        if taken == 0 {
            return 0;
        }
    }
    count(Counter::RingFull, 1);
    1
}

/// Counts a block in.
#[inline(always)]
pub(crate) fn add(block: Block) {
    if config::without(config::TOTALS) {
        return;
    }
    let Some(place) = slot(block.stack) else { return };
    // SAFETY: `place` points to a value of STACKS.
    unsafe {
        let blocks = atomic::add(&raw mut (*place).allocated_blocks, block.sample.blocks());
        atomic::add(&raw mut (*place).allocated_bytes, block.sample.bytes());
        let freed = (&raw const (*place).freed_blocks).read_volatile();
        if blocks == freed {
            (&raw mut (*place).since).write_volatile(block.time);
            (&raw mut (*place).since_freed).write_volatile(freed);
        }
    }
}

/// Counts a block out: it was freed.
#[inline(always)]
pub(crate) fn subtract(block: Block) {
    if config::without(config::TOTALS) {
        return;
    }
    let Some(place) = slot(block.stack) else { return };
    // SAFETY: as in `add`.
    unsafe {
        atomic::add(&raw mut (*place).freed_bytes, block.sample.bytes());
        atomic::add(&raw mut (*place).freed_blocks, block.sample.blocks());
    }
}

/// Counts a block out whose free was seen, and how long it lived.
#[inline(always)]
pub(crate) fn end(block: Block, run: &Run) {
    subtract(block);
    if config::without(config::LIFETIMES) {
        return;
    }
    let class = lifetime_class(run.now().wrapping_sub(block.time));
    let Some(place) = LIFETIMES.get_ptr_mut(block.stack & config::STACK_MASK.load()) else { return };
    let class = bounded(class as u64) as usize;
    if class < LIFETIME_CLASSES {
        // SAFETY: points into a value of LIFETIMES.
        unsafe {
            let counter = (&raw mut (*place).blocks).cast::<u32>().add(class);
            if counter.read_volatile() < LIFETIME_FULL {
                atomic::add_half(counter, 1);
            }
        }
    }
}

/// Whether two stacks are known to be of different programs.
#[inline(always)]
pub(crate) fn are_of_two_programs(one: u32, other: u32) -> bool {
    if one == STACK_TABLE_FULL || other == STACK_TABLE_FULL {
        return false;
    }
    let (Some(one), Some(other)) = (slot(one), slot(other)) else { return false };
    // SAFETY: both point to values of STACKS.
    unsafe { (&raw const (*one).target).read_volatile() != (&raw const (*other).target).read_volatile() }
}

/// Undoes `add`: the block turned out to be part of an outer call.
#[inline(always)]
pub(crate) fn undo(block: Block) {
    let Some(place) = slot(block.stack) else { return };
    // SAFETY: as in `add`.
    unsafe {
        atomic::add(&raw mut (*place).allocated_bytes, block.sample.bytes().wrapping_neg());
        atomic::add(&raw mut (*place).allocated_blocks, block.sample.blocks().wrapping_neg());
    }
}

/// Counts a block that the table of live blocks had no room for.
#[inline(always)]
pub(crate) fn untracked(block: Block) {
    count(Counter::LiveMapFull, 1);
    count(Counter::LiveMapFullBytes, block.sample.bytes());
}
