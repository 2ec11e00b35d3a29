//! What process mode's and kernel mode's objects need and neither can import from the other.

use crate::atomic;

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

/// Claims the first of `count` values that no other program uses: its `busy` word becomes 1.
#[inline(always)]
pub(crate) fn claim<T>(
    count: u32,
    get: impl Fn(u32) -> Option<*mut T>,
    busy: impl Fn(*mut T) -> *mut u64,
) -> Option<*mut T> {
    for index in 0..count {
        let value = get(index)?;
        // SAFETY: `busy` points into the value of a map.
        if unsafe { atomic::compare_exchange(busy(value), 0, 1) }.is_ok() {
            return Some(value);
        }
    }
    None
}
