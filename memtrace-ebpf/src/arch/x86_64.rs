//! `x86_64`, System V ABI.

use core::ffi::c_void;

use aya_ebpf::bindings::pt_regs;
use memtrace_common::{Exit, ExitKind, Row, WalkEnd};

use super::{Frame, SignalFrame};
use crate::types::Rule;

/// `uc_mcontext.gregs` of the `ucontext_t` that is a signal's frame (arch/x86/include/uapi/asm/sigcontext.h).
pub(crate) const SIGNAL: SignalFrame = SignalFrame { frame_pointer: 120, sp: 160, pc: 168, link: None };

/// What [`Row::SP_FAR`] adds: 65,536 words.
const FAR: u64 = 8 << 16;

/// Reads a register with an instruction of its own: LLVM would make one of several, with an offset that it computes, and the
/// verifier requires constants.
macro_rules! load {
    ($registers:expr, $name:ident) => {{
        let mut value = $registers.0 as u64;
        // SAFETY: reads a word of the context, which is valid for the program's run (see `Registers::new`).
        #[cfg(target_arch = "bpf")]
        unsafe {
            core::arch::asm!(
                "{0} = *(u64 *)({0} + {1})",
                inout(reg) value,
                const core::mem::offset_of!(pt_regs, $name),
                options(nostack, preserves_flags)
            );
        }
        value = value.wrapping_add(0);
        value
    }};
}

/// The registers a probe sees.
pub(crate) struct Registers(*const pt_regs);

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
        unsafe { [(*self.0).rdi, (*self.0).rsi, (*self.0).rdx, (*self.0).rcx] }
    }

    /// The value a function returns.
    #[inline(always)]
    pub(crate) fn result(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rax }
    }

    /// The frame pointer.
    #[inline(always)]
    pub(crate) fn frame_pointer(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rbp }
    }

    /// The return address at entry, which `call` has pushed: `read` gives a word of the stack. 0 if it cannot be read.
    #[inline(always)]
    pub(crate) fn return_address(&self, read: impl FnOnce(u64) -> Option<u64>) -> u64 {
        read(self.sp()).unwrap_or(0)
    }

    /// The canonical frame address at entry.
    #[inline(always)]
    pub(crate) fn entry_cfa(&self) -> u64 {
        self.sp() + 8
    }

    /// The canonical frame address after the return: `ret` has popped the return address.
    #[inline(always)]
    pub(crate) fn return_cfa(&self) -> u64 {
        self.sp()
    }

    /// The instruction pointer.
    #[inline(always)]
    pub(crate) fn ip(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rip }
    }

    /// The stack pointer.
    #[inline(always)]
    pub(crate) fn sp(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rsp }
    }

    /// The canonical frame address at an exit site; `None` if the function goes on from here.
    #[inline(always)]
    pub(crate) fn exit_cfa(&self, exit: Exit) -> Option<u64> {
        if let Some(condition) = exit.condition()
            && !self.holds(condition)
        {
            return None;
        }
        let base = if exit.is_by_frame_pointer() { load!(self, rbp) } else { load!(self, rsp) };
        Some(base.wrapping_add(8 * exit.words()))
    }

    /// What the function returns at that exit.
    #[inline(always)]
    pub(crate) fn exit_result(&self, exit: Exit) -> u64 {
        if exit.kind() == ExitKind::Register as u32 { self.general(exit.register()) } else { 0 }
    }

    /// A general register by its number in instructions.
    #[inline(always)]
    fn general(&self, number: u32) -> u64 {
        match number {
            0 => load!(self, rax),
            1 => load!(self, rcx),
            2 => load!(self, rdx),
            3 => load!(self, rbx),
            5 => load!(self, rbp),
            6 => load!(self, rsi),
            7 => load!(self, rdi),
            8 => load!(self, r8),
            9 => load!(self, r9),
            10 => load!(self, r10),
            11 => load!(self, r11),
            12 => load!(self, r12),
            13 => load!(self, r13),
            14 => load!(self, r14),
            15 => load!(self, r15),
            _ => 0,
        }
    }

    /// Whether a condition holds, by its number in instructions (Intel SDM, volume 1, appendix B).
    #[inline(always)]
    fn holds(&self, condition: u32) -> bool {
        // SAFETY: as above.
        let flags = unsafe { (*self.0).eflags };
        let flag = |bit: u32| flags >> bit & 1;
        let (carry, parity, zero, sign, overflow) = (flag(0), flag(2), flag(6), flag(7), flag(11));
        let positive = match condition >> 1 {
            0 => overflow,
            1 => carry,
            2 => zero,
            3 => carry | zero,
            4 => sign,
            5 => parity,
            6 => sign ^ overflow,
            _ => zero | (sign ^ overflow),
        };
        positive != u64::from(condition & 1)
    }
}

/// The address in what was read as a return address.
#[inline(always)]
pub(crate) const fn code_address(word: u64) -> u64 {
    word
}

/// The stack pointer at a function's entry, by its canonical frame address.
#[inline(always)]
pub(crate) const fn entry_sp(cfa: u64) -> u64 {
    cfa.wrapping_sub(8)
}

/// Where a function keeps its return address, by its canonical frame address.
#[inline(always)]
pub(crate) const fn return_slot(cfa: u64) -> Option<u64> {
    Some(cfa.wrapping_sub(8))
}

/// The frame that a rule gives; `read` gives a word of the stack.
#[inline(always)]
pub(crate) fn frame(
    rule: Rule,
    sp: u64,
    frame_pointer: u64,
    read: impl Fn(u64) -> Option<u64>,
) -> Result<Frame, WalkEnd> {
    let words = 8 * rule.cfa();
    let cfa = match rule.kind() {
        Row::SP => sp + words,
        Row::FP => frame_pointer.wrapping_add(words),
        Row::SP_FAR => sp + FAR + words,
        Row::SP_DEREF => {
            read(sp + 8 * (rule.cfa() & 0xff)).ok_or(WalkEnd::Unreadable)?.wrapping_add(8 * (rule.cfa() >> 8))
        }
        Row::FP_DEREF => {
            let offset = i64::from(rule.cfa() as u16 as i16);
            read(frame_pointer.wrapping_add_signed(offset)).ok_or(WalkEnd::Unreadable)?
        }
        _ => return Err(WalkEnd::Unsupported),
    };
    let frame_pointer = match rule.fp() {
        same if same == u64::from(Row::SAME) => 0,
        fp if fp == u64::from(Row::AT_FP) => frame_pointer,
        words => cfa.wrapping_sub(8 * words),
    };
    Ok(Frame { cfa, return_address: cfa.wrapping_sub(8), frame_pointer })
}

/// The frame of code that is only known to keep a frame pointer: `push %rbp` makes its top.
#[inline(always)]
pub(crate) fn frame_by_frame_pointer(frame_pointer: u64) -> Frame {
    Frame { cfa: frame_pointer + 16, return_address: frame_pointer + 8, frame_pointer }
}
