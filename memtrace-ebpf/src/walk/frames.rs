//! The stack as it grows: the frames found, and why there are no more.

use memtrace_common::{MAX_FRAMES, WalkEnd, mix};

use crate::{shared::bounded, types::Scratch};

/// What a step returns to its loop: 0 to go on. The reason for the end is kept.
#[inline(always)]
pub(super) fn note_end(scratch: *mut Scratch, step: Result<(), WalkEnd>) -> u64 {
    match step {
        Ok(()) => 0,
        Err(end) => {
            // SAFETY: `scratch` was claimed.
            unsafe { (*scratch).event.end = end as u32 };
            1
        }
    }
}

/// Appends the frame at `pc`; `false` when the stack is full.
#[inline(always)]
pub(super) fn push(scratch: *mut Scratch, pc: u64) -> bool {
    // SAFETY: `scratch` was claimed; the index is bounded right before its use.
    unsafe {
        let index = bounded(u64::from((*scratch).event.frames));
        if index >= MAX_FRAMES as u64 {
            return false;
        }
        (*scratch).event.pcs[index as usize] = pc;
        (*scratch).event.frames = index as u32 + 1;
        if pc.wrapping_sub((*scratch).unstable.0) < (*scratch).unstable.1 {
            (*scratch).is_unstable = 1;
        }
        let hash = mix((*scratch).event.hash ^ pc);
        (*scratch).event.hash = hash ^ hash >> 29;
    }
    true
}
