//! `aarch64`, the procedure call standard of the Arm architecture (AAPCS64).

use core::ffi::c_void;

use aya_ebpf::bindings::user_pt_regs;
use memtrace_common::{Exit, Row, WalkEnd};

use super::{Frame, SignalFrame};
use crate::types::Rule;

/// `uc_mcontext` of the `ucontext_t` at 128 in a signal's frame (arch/arm64/include/uapi/asm/sigcontext.h).
pub(crate) const SIGNAL: SignalFrame = SignalFrame { frame_pointer: 544, sp: 560, pc: 568, link: Some(552) };

const FP: usize = 29;
const LR: usize = 30;
/// The bits of a user address. Above them a return address may carry its signature (pointer authentication).
const ADDRESS: u64 = (1 << 48) - 1;
/// Set in the stack pointer of a frame where only a lower limit of it is known.
const UNKNOWN: u64 = 1;

/// The registers a probe sees.
pub(crate) struct Registers(*const user_pt_regs);

impl Registers {
    /// Registers of a uprobe's context.
    ///
    /// # Safety
    /// `context` is what the kernel passed to a kprobe-type program.
    #[inline(always)]
    pub(crate) unsafe fn new(context: *mut c_void) -> Self {
        Self(context.cast())
    }

    /// The first four integer arguments.
    #[inline(always)]
    pub(crate) fn arguments(&self) -> [u64; 4] {
        // SAFETY: the context is valid for the program's run (see `new`).
        unsafe { [(*self.0).regs[0], (*self.0).regs[1], (*self.0).regs[2], (*self.0).regs[3]] }
    }

    /// The value a function returns.
    #[inline(always)]
    pub(crate) fn result(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).regs[0] }
    }

    /// The frame pointer.
    #[inline(always)]
    pub(crate) fn frame_pointer(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).regs[FP] }
    }

    /// The return address at entry: in a register, the stack need not be read.
    #[inline(always)]
    pub(crate) fn return_address(&self, _: impl FnOnce(u64) -> Option<u64>) -> u64 {
        // SAFETY: as above.
        code_address(unsafe { (*self.0).regs[LR] })
    }

    /// The canonical frame address at entry: a call leaves the stack pointer alone.
    #[inline(always)]
    pub(crate) fn entry_cfa(&self) -> u64 {
        self.sp()
    }

    /// The canonical frame address after the return.
    #[inline(always)]
    pub(crate) fn return_cfa(&self) -> u64 {
        self.sp()
    }

    /// The agent finds no exits on this architecture.
    #[inline(always)]
    pub(crate) fn exit_cfa(&self, _: Exit) -> Option<u64> {
        None
    }

    /// As above.
    #[inline(always)]
    pub(crate) fn exit_result(&self, _: Exit) -> u64 {
        0
    }

    /// The instruction pointer.
    #[inline(always)]
    pub(crate) fn ip(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).pc }
    }

    /// The stack pointer.
    #[inline(always)]
    pub(crate) fn sp(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).sp }
    }
}

/// The address in what was read as a return address: without its signature.
#[inline(always)]
pub(crate) const fn code_address(word: u64) -> u64 {
    word & ADDRESS
}

/// The stack pointer at a function's entry, by its canonical frame address.
#[inline(always)]
pub(crate) const fn entry_sp(cfa: u64) -> u64 {
    cfa
}

/// Where a function keeps its return address, by its canonical frame address: it is not known without the function's
/// unwind rows.
#[inline(always)]
pub(crate) const fn return_slot(_: u64) -> Option<u64> {
    None
}

/// The frame that a rule gives: no kind of rule needs the stack for that.
#[inline(always)]
pub(crate) fn frame(
    rule: Rule,
    sp: u64,
    frame_pointer: u64,
    _: impl Fn(u64) -> Option<u64>,
) -> Result<Frame, WalkEnd> {
    let base = match rule.kind() {
        Row::FP | Row::FP_LR => frame_pointer,
        Row::SP | Row::SP_LR if sp & UNKNOWN == 0 => sp,
        Row::SP | Row::SP_LR => return Err(WalkEnd::NoUnwindInfo),
        _ => return Err(WalkEnd::Unsupported),
    };
    let cfa = base.wrapping_add(8 * rule.cfa());
    let below_cfa = cfa.wrapping_sub(8 * rule.fp());
    if rule.kind() == Row::FP_LR || rule.kind() == Row::SP_LR {
        return Ok(Frame { cfa, return_address: below_cfa, frame_pointer: 0 });
    }
    let pair = match rule.fp() {
        fp if fp == u64::from(Row::AT_FP) => frame_pointer,
        fp if fp == u64::from(Row::AT_SP) => sp,
        _ => below_cfa,
    };
    Ok(Frame { cfa, return_address: pair.wrapping_add(8), frame_pointer: pair })
}

/// The frame of code that is only known to keep a frame pointer. The pair of saved registers may be anywhere in the
/// frame: the caller's stack pointer is above it, no more is known.
#[inline(always)]
pub(crate) fn frame_by_frame_pointer(frame_pointer: u64) -> Frame {
    Frame { cfa: frame_pointer + 8 | UNKNOWN, return_address: frame_pointer + 8, frame_pointer }
}
