//! Following frame pointers. Correct where all code keeps them; elsewhere the guard ends the walk, and the stack
//! is marked incomplete.

use memtrace_common::{MAX_FRAMES, WalkEnd};

use super::{
    frames::{note_end, push},
    window,
};
use crate::{arch, types::Scratch};

/// A frame is at most this far above the previous one, in bytes.
const MAX_STEP: u64 = 1 << 20;

/// Takes frames until the chain ends.
#[inline(always)]
pub(super) fn walk(scratch: *mut Scratch) {
    for _ in 0..=MAX_FRAMES {
        if fp_step(scratch) != 0 {
            break;
        }
    }
}

/// Takes the frame at `pc` and finds the next one; not 0 at the end. Global function: verified once, so that
/// the loop around it needs neither `bpf_loop` (kernel 5.17) nor a large verification.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn fp_step(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 1;
    }
    note_end(scratch, try_step(scratch))
}

#[inline(always)]
fn try_step(scratch: *mut Scratch) -> Result<(), WalkEnd> {
    // SAFETY: `scratch` is not null (see `fp_step`).
    unsafe {
        if !push(scratch, (*scratch).pc) {
            return Err(WalkEnd::TooDeep);
        }
        let frame = (*scratch).frame_pointer;
        if frame == 0 {
            // A register that is not a frame pointer may be 0 too; in a caller it is meaningful.
            let alone = (*scratch).event.frames <= 1;
            return Err(if alone { WalkEnd::NoFramePointer } else { WalkEnd::Complete });
        }
        if !plausible(frame, (*scratch).sp) {
            return Err(WalkEnd::NoFramePointer);
        }
        let next = window::read(scratch, frame).ok_or(WalkEnd::Unreadable)?;
        let pc = arch::code_address(window::read(scratch, frame + 8).ok_or(WalkEnd::Unreadable)?);
        if pc == 0 {
            return Err(WalkEnd::Complete);
        }
        (*scratch).pc = pc;
        (*scratch).sp = frame + 16;
        (*scratch).frame_pointer = next;
    }
    Ok(())
}

/// Whether a frame pointer can be one, by where the stack pointer is.
#[inline(always)]
pub(super) fn plausible(frame: u64, sp: u64) -> bool {
    frame & 7 == 0 && frame >= sp && frame.wrapping_sub(sp) < MAX_STEP
}
