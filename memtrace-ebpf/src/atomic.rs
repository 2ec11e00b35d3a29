//! Atomic operations. The BPF targets declare `atomic_cas: false`, so core's `Atomic*` types have no
//! read-modify-write methods; the intrinsics compile to BPF's own instructions (v3, kernel 5.12).

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd};

/// Replaces `old` by `new`; on failure returns what was there.
///
/// # Safety
/// `place` points into a map value.
#[inline(always)]
pub(crate) unsafe fn compare_exchange(place: *mut u64, old: u64, new: u64) -> Result<(), u64> {
    // SAFETY: by the contract above.
    let (found, done) = unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(place, old, new) };
    if done { Ok(()) } else { Err(found) }
}

/// Adds, wrapping; returns what was there before.
///
/// # Safety
/// `place` points into a map value.
#[inline(always)]
pub(crate) unsafe fn add(place: *mut u64, value: u64) -> u64 {
    // SAFETY: by the contract above.
    unsafe { atomic_xadd::<u64, u64, { SeqCst }>(place, value) }
}

/// The same of 32 bits.
///
/// # Safety
/// `place` points into a map value.
#[inline(always)]
pub(crate) unsafe fn add_half(place: *mut u32, value: u32) {
    // SAFETY: by the contract above.
    unsafe { atomic_xadd::<u32, u32, { SeqCst }>(place, value) };
}
