//! Stacks: from an allocator function's entry to the frames of its callers.
//!
//! - `cfi`: by unwind rows, which the agent made of the files' DWARF call frame information;
//! - `fp`: by frame pointers;
//! - `rules`: which row is an address's; `trampoline`: return addresses that a return probe replaced;
//! - `window`: reading the stack; `frames`: the frames found; `scratch`: room for both.

mod cfi;
mod fp;
mod frames;
mod rules;
mod scratch;
mod trampoline;
mod window;

pub(crate) use scratch::{claim, release};

use memtrace_common::{Target, WalkEnd, WalkMethod, mix, stack_seed};

use crate::{
    arch::{self, Registers},
    config,
    types::Scratch,
};

const CFI: u32 = WalkMethod::Cfi as u32;
const FRAME_POINTER: u32 = WalkMethod::FramePointer as u32;

/// The walk that starts at a function's entry. The first frame is exact: at the entry the return address
/// has a fixed place. The method determines the rest.
#[inline(always)]
pub(crate) fn from_entry(scratch: *mut Scratch, registers: &Registers, target: &Target, id: u32) {
    // SAFETY: `scratch` points to a claimed value of SCRATCHES.
    unsafe {
        (*scratch).event.target = id;
        (*scratch).event.frames = 0;
        (*scratch).event.end = WalkEnd::TooDeep as u32;
        (*scratch).event.hash = stack_seed(id);
        (*scratch).sp = registers.entry_cfa();
        (*scratch).frame_pointer = registers.frame_pointer();
        rules::begin(scratch, target, id);
        window::begin(scratch, arch::entry_sp(registers.entry_cfa()));
        (*scratch).pc = registers.return_address(|address| window::read(scratch, address));
    }
}

/// Takes the remaining frames and completes the hash. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn walk_finish(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size. A hash of 0 would mark a free slot.
    unsafe {
        if (*scratch).pc == 0 {
            (*scratch).event.end = WalkEnd::Unreadable as u32;
        } else {
            (*scratch).pc = trampoline::resolve(arch::entry_sp((*scratch).sp), (*scratch).pc);
            match config::METHOD.load() {
                CFI => cfi::walk(scratch),
                FRAME_POINTER => fp::walk(scratch),
                _ => {
                    frames::push(scratch, (*scratch).pc);
                }
            }
        }
        let unknown = (*scratch).event.end == WalkEnd::NoModule as u32;
        if unknown || (*scratch).is_unstable != 0 {
            // The same addresses are another stack once other libraries are there.
            (*scratch).event.hash = mix((*scratch).event.hash ^ u64::from((*scratch).event.unloaded));
        }
        (*scratch).event.hash |= 1;
    }
    1
}
