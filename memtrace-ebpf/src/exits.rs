//! Calls that end at a function's exit site.

use core::ptr::null_mut;

use memtrace_common::{CALLS_PER_THREAD, Call, Thread};

use crate::calls::{DEPTH_MASK, store};

/// The call that ends at its exit site, and the one around it. Its place is found by its frame alone: calls on other
/// stacks may have been entered since.
#[inline(always)]
pub(crate) fn pop(thread: *mut Thread, cfa: u64, id: u32) -> Option<(Call, *mut Call)> {
    // SAFETY: `thread` points to a value of THREADS and is this thread's; indices are masked.
    unsafe {
        let depth = (*thread).depth as usize;
        if depth == 0 {
            return None;
        }
        let top = &raw const (*thread).calls[(depth - 1) & DEPTH_MASK];
        let mut place = depth;
        if !is(&*top, cfa, id) {
            // In the topmost place; the call around it stays where it was.
            place = calls_raise(thread, cfa, u64::from(id)) as usize;
            if place == 0 {
                return None;
            }
        }
        (*thread).depth = depth as u32 - 1;
        let outer = if place >= 2 { &raw mut (*thread).calls[(place - 2) & DEPTH_MASK] } else { null_mut() };
        Some((*top, outer))
    }
}

/// Whether a call has exits and that frame.
#[inline(always)]
fn is(call: &Call, cfa: u64, id: u32) -> bool {
    call.cfa == cfa && call.target == id && call.cookie.has_exits() != 0
}

/// Makes the call with a frame the topmost, in a place of its own. Its former place plus 1; 0: there is none. Global
/// function: verified once.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn calls_raise(thread: *mut Thread, cfa: u64, id: u64) -> u64 {
    if thread.is_null() {
        return 0;
    }
    // SAFETY: not null, and the verifier knows its size; indices are masked.
    unsafe {
        let depth = (*thread).depth as usize;
        for index in 0..CALLS_PER_THREAD - 1 {
            let call = &raw mut (*thread).calls[index];
            if index + 1 >= depth || !is(&*call, cfa, id as u32) {
                continue;
            }
            let found = *call;
            for place in 0..CALLS_PER_THREAD - 1 {
                if place >= index && place + 1 < depth {
                    store(&raw mut (*thread).calls[place], &raw const (*thread).calls[place + 1]);
                }
            }
            store(&raw mut (*thread).calls[(depth - 1) & DEPTH_MASK], &found);
            return index as u64 + 1;
        }
    }
    0
}
