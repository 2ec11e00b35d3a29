//! The registers of a stopped thread.

use std::mem::offset_of;

use libc::{pid_t, user_regs_struct};

use crate::model::ThreadRegisters;

/// The most words of the general registers: more than either processor has.
const MOST: usize = 64;

/// The most words of vectors, with all extensions of x86 about 11 KiB.
const MOST_OF_VECTORS: usize = 2048;

/// Vectors: `NT_X86_XSTATE`.
#[cfg(target_arch = "x86_64")]
const VECTORS: libc::c_int = 0x202;
#[cfg(target_arch = "aarch64")]
const VECTORS: libc::c_int = libc::NT_PRFPREG;

/// Where a thread is.
#[derive(Debug, Default)]
pub(in crate::target) struct Place {
    /// The next instruction.
    pub(in crate::target) instruction: u64,
    /// The system call that it is in; elsewhere nothing that could be one.
    pub(in crate::target) call: u64,
    /// What is in its registers, without vectors.
    registers: ThreadRegisters,
}

/// Reads the general registers. `None`: it is not stopped, or is a 32-bit program.
pub(in crate::target) fn place(tid: pid_t) -> Option<Place> {
    let words = super::register_set(tid, libc::NT_PRSTATUS, MOST).ok()?;
    if words.len() * size_of::<u64>() < size_of::<user_regs_struct>() {
        return None;
    }
    let word = |offset: usize| words.get(offset / size_of::<u64>()).copied();
    let (instruction, call, sp) = (word(INSTRUCTION)?, word(CALL)?, word(STACK));
    #[cfg(target_arch = "x86_64")]
    let tls = word(offset_of!(user_regs_struct, fs_base)).filter(|&tls| tls != 0);
    #[cfg(target_arch = "aarch64")]
    let tls = super::register_set(tid, NT_ARM_TLS, 2).ok().and_then(|words| words.first().copied());
    let registers = ThreadRegisters { tid: tid.unsigned_abs(), sp, tls, words };
    Some(Place { instruction, call, registers })
}

/// Every register of a stopped thread; of one that is not stopped, nothing is known.
pub(in crate::target) fn all(tid: pid_t) -> ThreadRegisters {
    let unknown = || ThreadRegisters { tid: tid.unsigned_abs(), ..ThreadRegisters::default() };
    let Some(Place { mut registers, .. }) = place(tid) else { return unknown() };
    registers.words.extend(super::register_set(tid, VECTORS, MOST_OF_VECTORS).unwrap_or_default());
    registers
}

/// Lets a call that a signal has interrupted begin again if that signal has no handler. A traced thread receives signals
/// that it ignores, and some calls (`epoll_wait`) would fail by them, which without a tracer they cannot. With a handler,
/// the kernel makes the failure of it that it was.
#[cfg(target_arch = "x86_64")]
pub(in crate::target) fn restart_unless_handled(tid: pid_t) {
    /// `ERESTARTNOHAND` of the kernel.
    const RESTART: i64 = -514;
    const RESULT: usize = offset_of!(user_regs_struct, rax);
    let words = super::register_set(tid, libc::NT_PRSTATUS, MOST).unwrap_or_default();
    let word = |offset: usize| words.get(offset / size_of::<u64>()).map(|word| word.cast_signed());
    if word(CALL).is_some_and(|call| call >= 0) && word(RESULT) == Some(-i64::from(libc::EINTR)) {
        let _ = super::set_register(tid, RESULT, RESTART);
    }
}

/// On this processor the kernel has decided before it reports a signal.
#[cfg(target_arch = "aarch64")]
pub(in crate::target) fn restart_unless_handled(_: pid_t) {}

#[cfg(target_arch = "x86_64")]
const INSTRUCTION: usize = offset_of!(user_regs_struct, rip);
#[cfg(target_arch = "x86_64")]
const CALL: usize = offset_of!(user_regs_struct, orig_rax);
#[cfg(target_arch = "x86_64")]
const STACK: usize = offset_of!(user_regs_struct, rsp);

/// The thread pointer (include/uapi/linux/elf.h).
#[cfg(target_arch = "aarch64")]
const NT_ARM_TLS: libc::c_int = 0x401;
#[cfg(target_arch = "aarch64")]
const INSTRUCTION: usize = offset_of!(user_regs_struct, pc);
/// The number of a system call is in the ninth register.
#[cfg(target_arch = "aarch64")]
const CALL: usize = offset_of!(user_regs_struct, regs) + 8 * size_of::<u64>();
#[cfg(target_arch = "aarch64")]
const STACK: usize = offset_of!(user_regs_struct, sp);
