//! Walks of the kernel's stack, by the kernel's own unwinder.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_get_stack;
use memtrace_common::{KERNEL_FRAMES, KernelCounter, mix};

use crate::{
    bounded,
    maps::{SCRATCHES, count},
    shared,
    types::Scratch,
};

/// Innermost frames that are searched for the allocating function's caller.
const OWN_FRAMES: usize = 16;

/// Claims room for a walk, or counts that none was free.
#[inline(always)]
pub(crate) fn claim() -> Option<*mut Scratch> {
    let claimed = shared::claim(
        Scratch::PER_CPU,
        |index| SCRATCHES.get_ptr_mut(index),
        // SAFETY: points to a value of SCRATCHES.
        |scratch| unsafe { &raw mut (*scratch).busy },
    );
    if claimed.is_none() {
        count(KernelCounter::NoWalkSlot, 1);
    }
    claimed
}

/// Gives it back.
///
/// # Safety
/// `scratch` was claimed and is not used afterwards.
#[inline(always)]
pub(crate) unsafe fn release(scratch: *mut Scratch) {
    // SAFETY: by the contract above.
    unsafe { (&raw mut (*scratch).busy).write_volatile(0) };
}

/// Walks the stack, finds where the caller's frames begin and hashes them.
#[inline(always)]
pub(crate) fn walk(context: *mut c_void, scratch: *mut Scratch) {
    count(KernelCounter::Walks, 1);
    // SAFETY: `scratch` was claimed; the helper writes at most the size of the array.
    unsafe {
        let bytes =
            bpf_get_stack(context, (&raw mut (*scratch).event.pcs).cast(), (8 * KERNEL_FRAMES) as u32, 0);
        (*scratch).event.frames = if bytes < 0 { 0 } else { (bytes as u64 / 8) as u32 };
    }
    walk_hash(scratch);
}

/// Finds the caller's first frame and hashes what follows. Global function: verified once.
///
/// The outermost frame is the entry stub from user mode, an interrupt or a new thread: it adds nothing to the
/// one before, and on kernels with randomized stacks its place varies. It is not part of the identity.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn walk_hash(scratch: *mut Scratch) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are bounded right before their use.
    unsafe {
        let call_site = (*scratch).origin.call_site;
        let mut own = 0;
        if call_site != 0 {
            for index in 0..OWN_FRAMES {
                if (*scratch).event.pcs[index] == call_site {
                    own = index as u64;
                    break;
                }
            }
        }
        let frames = u64::from((*scratch).event.frames);
        let mut hash = (*scratch).origin.seed;
        let mut index = own;
        for _ in 0..KERNEL_FRAMES {
            let place = bounded(index);
            if place + 1 >= frames || place >= KERNEL_FRAMES as u64 {
                break;
            }
            hash = step(hash, (*scratch).event.pcs[place as usize]);
            index = place + 1;
        }
        (*scratch).event.own = own as u32;
        (*scratch).event.hash = if hash == 0 { 1 } else { hash };
    }
    0
}

/// Adds a frame to a hash.
#[inline(always)]
pub(crate) fn step(hash: u64, pc: u64) -> u64 {
    let mixed = mix(hash ^ pc);
    mixed ^ mixed >> 32
}
