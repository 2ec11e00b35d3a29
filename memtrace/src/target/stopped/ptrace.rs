//! The calls of ptrace(2). Those of nix do not know real-time signals.

use std::{fs, io, mem};

use crate::model::ThreadRegisters;

/// Sets of registers (include/uapi/linux/elf.h): `NT_PRSTATUS`, `NT_PRFPREG`.
const GENERAL: usize = 1;
const VECTOR: usize = 2;

/// Words of the largest set.
const MOST_WORDS: usize = 66;

/// What a seized thread does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// It has not stopped yet.
    Running,
    /// It has stopped.
    Stopped {
        /// The signal that it was about to be given, and gets when it is released; 0: none.
        signal: i32,
    },
    /// It has ended.
    Gone,
}

/// Seizes a thread and interrupts it.
///
/// # Errors
/// The kernel's error: EPERM for a thread that is traced already, or is ending.
pub(super) fn seize(tid: i32) -> io::Result<()> {
    request(libc::PTRACE_SEIZE, tid, 0, 0)?;
    // It may end meanwhile.
    let _ = request(libc::PTRACE_INTERRUPT, tid, 0, 0);
    Ok(())
}

/// Releases a thread that has stopped, and gives it a signal unless that is 0. Whether it has; one that was killed has not,
/// but has ended.
pub(super) fn detach(tid: i32, signal: i32) -> bool {
    request(libc::PTRACE_DETACH, tid, 0, signal as usize).is_ok()
}

/// Whether a seized thread has stopped, without waiting. The kernel keeps one that has ended until it is asked for here;
/// but if that is a process that this one has started, its exit status is for whoever waits for it.
pub(super) fn state(tid: i32) -> State {
    // `__WNOTHREAD`: what other threads of this process trace is theirs.
    let options = libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: plain integers.
    let mut event: libc::siginfo_t = unsafe { mem::zeroed() };
    let looking = options | libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
    // SAFETY: writes to a local variable.
    if unsafe { libc::waitid(libc::P_PID, tid.unsigned_abs(), &raw mut event, looking) } < 0 {
        return State::Gone;
    }
    let has_ended = [libc::CLD_EXITED, libc::CLD_KILLED, libc::CLD_DUMPED].contains(&event.si_code);
    if has_ended && is_child(tid) {
        return State::Gone;
    }
    let mut status = 0;
    // SAFETY: writes to a local variable.
    match unsafe { libc::waitpid(tid, &raw mut status, options) } {
        0 => State::Running,
        // An upper half tells a stop by an interrupt, or one of the whole process, from a signal's delivery.
        result if result == tid && libc::WIFSTOPPED(status) => {
            State::Stopped { signal: if status >> 16 == 0 { libc::WSTOPSIG(status) } else { 0 } }
        }
        _ => State::Gone,
    }
}

/// Whether this process has started that one.
fn is_child(tid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{tid}/status")).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    field("PPid:").and_then(|parent| parent.parse().ok()) == Some(std::process::id())
        && field("Tgid:").and_then(|process| process.parse().ok()) == Some(tid)
}

/// The registers of a thread that has stopped; of one that has not, or was killed meanwhile, nothing is known.
pub(super) fn registers(tid: i32, state: State) -> ThreadRegisters {
    let mut thread = ThreadRegisters { tid: tid.unsigned_abs(), ..ThreadRegisters::default() };
    if let State::Stopped { .. } = state
        && let Ok(general) = set(tid, GENERAL)
    {
        thread.sp = general.get(arch::SP).copied();
        thread.tls = arch::tls(tid, &general).filter(|&tls| tls != 0);
        thread.words = arch::general(&general).chain(thread.tls).collect();
        thread.words.extend(arch::vector(&set(tid, VECTOR).unwrap_or_default()));
        thread.words.retain(|&word| word != 0);
    }
    thread
}

/// A set of registers.
fn set(tid: i32, kind: usize) -> io::Result<Vec<u64>> {
    let mut words = vec![0u64; MOST_WORDS];
    let mut place =
        libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words.as_slice()) };
    request(libc::PTRACE_GETREGSET, tid, kind, (&raw mut place) as usize)?;
    words.truncate(place.iov_len / 8);
    Ok(words)
}

/// Calls ptrace.
fn request(request: libc::c_uint, tid: i32, address: usize, data: usize) -> io::Result<()> {
    // SAFETY: of the requests made here only PTRACE_GETREGSET writes: into the buffer of `set`, as much as it is told. (musl
    // has another type for the request.)
    if unsafe { libc::ptrace(request as _, tid, address, data) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// `struct user_regs_struct` (arch/x86/include/asm/user_64.h): r15 to rbp, rbx, r11 to r8, rax, rcx, rdx, rsi, rdi, orig_rax, rip,
/// cs, eflags, rsp, ss, fs_base, gs_base, segments.
#[cfg(target_arch = "x86_64")]
mod arch {
    /// Place of the stack pointer.
    pub(super) const SP: usize = 19;

    /// All but the number of the system call, flags, segments and `fs_base`.
    pub(super) fn general(words: &[u64]) -> impl Iterator<Item = u64> {
        let is_kept = |place: usize| place < 15 || [16, SP, 22].contains(&place);
        words.iter().enumerate().filter(move |(place, _)| is_kept(*place)).map(|(_, word)| *word)
    }

    /// `fs_base`.
    pub(super) fn tls(_: i32, words: &[u64]) -> Option<u64> {
        words.get(21).copied()
    }

    /// `xmm0` to `xmm15` of what `fxsave` writes.
    pub(super) fn vector(words: &[u64]) -> &[u64] {
        words.get(20..52).unwrap_or_default()
    }
}

/// `struct user_pt_regs` (arch/arm64/include/uapi/asm/ptrace.h): x0 to x30, sp, pc, pstate.
#[cfg(target_arch = "aarch64")]
mod arch {
    /// Place of the stack pointer.
    pub(super) const SP: usize = 31;
    /// `NT_ARM_TLS` (include/uapi/linux/elf.h).
    const TLS: usize = 0x401;

    /// All but the flags.
    pub(super) fn general(words: &[u64]) -> impl Iterator<Item = u64> {
        words.iter().take(33).copied()
    }

    /// `tpidr_el0`.
    pub(super) fn tls(tid: i32, _: &[u64]) -> Option<u64> {
        super::set(tid, TLS).ok()?.first().copied()
    }

    /// `v0` to `v31`.
    pub(super) fn vector(words: &[u64]) -> &[u64] {
        words.get(..64).unwrap_or_default()
    }
}
