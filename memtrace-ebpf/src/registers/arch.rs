//! What differs between architectures: how many registers, and where the vector registers are.

use core::ffi::c_void;

/// Bytes of `struct pt_regs`.
#[cfg(bpf_target_arch = "x86_64")]
pub(crate) const GENERAL_BYTES: u32 = 21 * 8;
/// Bytes of `struct user_pt_regs`, with which the kernel's `struct pt_regs` begins.
#[cfg(bpf_target_arch = "aarch64")]
pub(crate) const GENERAL_BYTES: u32 = 34 * 8;

/// Offset of `xmm_space` in `struct fxregs_state`, and of `xfeatures` in `struct xregs_state` (arch/x86/include/asm/fpu/types.h).
#[cfg(bpf_target_arch = "x86_64")]
const XMM: u64 = 160;
#[cfg(bpf_target_arch = "x86_64")]
const FEATURES: u64 = 512;
/// `XFEATURE_MASK_SSE`. Without it the registers are all zero, and what is in their place is old.
#[cfg(bpf_target_arch = "x86_64")]
const SSE: u64 = 2;

/// Address of a task's vector registers; 0: not known, or all zero.
#[cfg(bpf_target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn vector_registers(task: *mut c_void) -> u64 {
    use crate::{config, field, read};

    if config::TASK_FPSTATE.load() == 0 {
        return 0;
    }
    let state = read::<u64>(field(task, config::TASK_FPSTATE.load()));
    let registers = state.wrapping_add(config::FPSTATE_REGS.load());
    let features = read::<u64>(registers.wrapping_add(FEATURES));
    if state == 0 || features & SSE == 0 { 0 } else { registers.wrapping_add(XMM) }
}

/// Address of a task's vector registers: they are not read here.
#[cfg(bpf_target_arch = "aarch64")]
#[inline(always)]
pub(crate) fn vector_registers(_: *mut c_void) -> u64 {
    0
}
