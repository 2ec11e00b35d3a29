//! Room for walks: a few values per CPU.

use memtrace_common::Counter;

use crate::{
    maps::{SCRATCHES, count},
    shared,
    types::Scratch,
};

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
        count(Counter::NoWalkSlot, 1);
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
