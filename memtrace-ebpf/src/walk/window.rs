//! Reading the target's stack in bulk.

use aya_ebpf::helpers::generated::bpf_probe_read_user;

use crate::{shared::bounded, types::Scratch};

const WINDOW: u64 = 8 * Scratch::WINDOW_WORDS as u64;
/// The first read of a walk: most stacks end within it, or extend far beyond.
const FIRST: u64 = 1024;
const PAGE: u64 = 4096;

/// The word at `address`; `None` if it cannot be read, or is not aligned as everything on a stack is.
#[inline(always)]
pub(super) fn read(scratch: *mut Scratch, address: u64) -> Option<u64> {
    // SAFETY: `scratch` points to a claimed value of SCRATCHES; the index is masked to the window.
    unsafe {
        if address & 7 != 0 {
            return None;
        }
        let offset = address.wrapping_sub((*scratch).window_base);
        if offset < (*scratch).window_length {
            let index = bounded(offset >> 3) as usize & (Scratch::WINDOW_WORDS - 1);
            return Some((*scratch).window[index]);
        }
        if refill(scratch, address, WINDOW) == 0 {
            return None;
        }
        Some((*scratch).window[0])
    }
}

/// Begins a walk at `address`: the first read. What was read before is stale.
#[inline(always)]
pub(super) fn begin(scratch: *mut Scratch, address: u64) {
    // SAFETY: `scratch` points to a claimed value of SCRATCHES. Volatile, or LLVM calls a function for the two words.
    unsafe {
        let window = (&raw mut (*scratch).window).cast();
        (&raw mut (*scratch).window_base).write_volatile(address);
        if bpf_probe_read_user(window, FIRST as u32, address as *const _) == 0 {
            (&raw mut (*scratch).window_length).write_volatile(FIRST);
        } else {
            // Near the end of the stack.
            refill(scratch, address, FIRST);
        }
    }
}

/// Fills the window with up to `want` bytes from `address`: up to the end of the page where more is not mapped.
/// Returns their number, 0 when nothing could be read. Global function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn refill(scratch: *mut Scratch, address: u64, want: u64) -> u64 {
    if scratch.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows the window's size.
    unsafe {
        let window = (&raw mut (*scratch).window).cast();
        (*scratch).window_base = address;
        (*scratch).window_length = 0;
        let want = bounded(want);
        if want > WINDOW || want < 8 {
            return 0;
        }
        if bpf_probe_read_user(window, want as u32, address as *const _) == 0 {
            (*scratch).window_length = want;
            return want;
        }
        // To the end of the last page but one that the read touched, which for a stack is where it ends.
        let rest = bounded(((address + want - 1) & !(PAGE - 1)).wrapping_sub(address));
        if rest < 8 || rest > WINDOW {
            return 0;
        }
        if bpf_probe_read_user(window, rest as u32, address as *const _) == 0 {
            (*scratch).window_length = rest;
            return rest;
        }
    }
    0
}
