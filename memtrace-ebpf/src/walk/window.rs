//! Reading the target's stack in bulk.

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use super::{Scratch, bounded};

const WINDOW: u64 = 8 * Scratch::WINDOW_WORDS as u64;
const PAGE: u64 = 4096;

/// The word at `address`, which is 8-aligned; check [`failed`] afterwards.
#[inline(always)]
pub(super) fn read(scratch: *mut Scratch, address: u64) -> u64 {
    // SAFETY: `scratch` points to a claimed value of SCRATCHES; the index is masked to the window.
    unsafe {
        let offset = address.wrapping_sub((*scratch).window_base);
        if offset.wrapping_add(8) > (*scratch).window_length || offset > WINDOW {
            if refill(scratch, address) == 0 {
                return 0;
            }
            return (*scratch).window[0];
        }
        (*scratch).window[bounded(offset >> 3) as usize & (Scratch::WINDOW_WORDS - 1)]
    }
}

/// Forgets what was read: it was another moment's stack.
#[inline(always)]
pub(super) fn clear(scratch: *mut Scratch) {
    // SAFETY: as above.
    unsafe { (*scratch).window_length = 0 };
}

/// Whether the last read failed.
#[inline(always)]
pub(super) fn failed(scratch: *mut Scratch) -> bool {
    // SAFETY: as above.
    unsafe { (*scratch).window_length == 0 }
}

/// Fills the window from `address`, up to the end of the page where more is not mapped. Returns its length,
/// 0 when nothing could be read. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn refill(scratch: *mut Scratch, address: u64) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows the window's size.
    unsafe {
        let window = (&raw mut (*scratch).window).cast();
        (*scratch).window_base = address;
        (*scratch).window_length = WINDOW;
        if bpf_probe_read_user(window, WINDOW as u32, address as *const _) == 0 {
            return WINDOW;
        }
        let rest = bounded(PAGE - (address & (PAGE - 1)));
        (*scratch).window_length = 0;
        if rest < 8 || rest >= WINDOW {
            return 0;
        }
        if bpf_probe_read_user(window, rest as u32, address as *const _) == 0 {
            (*scratch).window_length = rest;
            return rest;
        }
    }
    0
}
