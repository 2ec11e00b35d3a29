//! Stacks: from an allocator function's entry to the frames of its callers.

mod fp;
mod scratch;
mod window;

pub(crate) use scratch::Scratch;

use memtrace_common::{WalkEnd, mix, stack_seed};

/// The walk that starts at a function's entry. The first frame is exact: the return address lies where the
/// stack pointer points. How to go on from there is the method's business.
///
/// `return_slot`: address of the return address; `frame_pointer`: the caller's.
#[inline(always)]
pub(crate) fn from_entry(scratch: *mut Scratch, return_slot: u64, frame_pointer: u64, target: u32) {
    // SAFETY: `scratch` points to a claimed value of SCRATCHES.
    unsafe {
        (*scratch).event.target = target;
        (*scratch).event.frames = 0;
        (*scratch).event.end = WalkEnd::TooDeep as u32;
        (*scratch).event.hash = stack_seed(target);
        (*scratch).sp = return_slot;
        (*scratch).frame_pointer = frame_pointer;
        window::clear(scratch);
        let caller = window::read(scratch, return_slot);
        if window::failed(scratch) {
            (*scratch).event.end = WalkEnd::Unreadable as u32;
            return;
        }
        (*scratch).pc = caller;
        (*scratch).sp = return_slot + 8;
    }
}

/// Takes the remaining frames and closes the hash.
#[inline(always)]
pub(crate) fn finish(scratch: *mut Scratch) {
    fp::walk(scratch);
    // SAFETY: as above. A hash of 0 would mark a free slot.
    unsafe { (*scratch).event.hash |= 1 };
}

/// Appends the frame at `pc`; `false` when the stack is full.
#[inline(always)]
fn push(scratch: *mut Scratch, pc: u64) -> bool {
    // SAFETY: as above; the index is bounded right before its use.
    unsafe {
        let index = bounded(u64::from((*scratch).event.frames));
        if index >= memtrace_common::MAX_FRAMES as u64 {
            return false;
        }
        (*scratch).event.pcs[index as usize] = pc;
        (*scratch).event.frames = index as u32 + 1;
        let hash = mix((*scratch).event.hash ^ pc);
        (*scratch).event.hash = hash ^ hash >> 29;
    }
    true
}

/// Hides a value from the optimizer, so that the bounds check that follows is made on the very register that
/// is then used: only then does the verifier see it.
#[inline(always)]
pub(crate) fn bounded(mut value: u64) -> u64 {
    // SAFETY: an instruction that moves a register onto itself. (An empty template breaks line info.)
    #[cfg(target_arch = "bpf")]
    unsafe {
        core::arch::asm!("{0} = {0}", inout(reg) value, options(pure, nomem, preserves_flags));
    }
    value = value.wrapping_add(0);
    value
}
