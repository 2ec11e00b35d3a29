//! Drawing which allocations are counted: see [`memtrace_common::sampling`].

use aya_ebpf::helpers::generated::bpf_get_prandom_u32;
use memtrace_common::{
    Sample,
    sampling::{EXACT, MAX_SHIFT},
};

/// Whether an allocation is counted.
#[inline(always)]
pub(crate) fn draw(sample: Sample) -> bool {
    let shift = sample.shift();
    if shift == EXACT {
        return true;
    }
    if shift > MAX_SHIFT {
        return false;
    }
    let basis = sample.basis();
    if basis >> shift != 0 {
        return true;
    }
    // SAFETY: a helper without arguments.
    let random = unsafe { bpf_get_prandom_u32() } & ((1 << shift) - 1);
    u64::from(random) < basis
}
