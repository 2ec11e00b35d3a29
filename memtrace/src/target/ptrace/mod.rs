//! The calls of ptrace. nix's cannot express real-time signals, nor what a seized thread says.

pub(super) mod registers;

use std::{ffi::c_void, ptr};

use libc::{c_int, c_long, c_uint, pid_t};
use nix::errno::Errno;

/// Waits for tracees of this thread only, and for threads as well as processes.
pub(super) const OWN: c_int = libc::__WALL | libc::__WNOTHREAD;

/// What has become of a tracee.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has ended, with this status of `waitpid`.
    Ended(c_int),
    /// It stopped for an event (`PTRACE_EVENT_*`); the signal matters for `PTRACE_EVENT_STOP` only.
    Event(c_int, c_int),
    /// It stopped at the entry to or the exit from a system call.
    Call,
    /// It is about to receive a signal.
    Signal(c_int),
}

impl Change {
    fn of(status: c_int) -> Self {
        if !libc::WIFSTOPPED(status) {
            return Self::Ended(status);
        }
        match (status >> 16, libc::WSTOPSIG(status)) {
            (0, signal) if signal == libc::SIGTRAP | 0x80 => Self::Call,
            (0, signal) => Self::Signal(signal),
            (event, signal) => Self::Event(event, signal),
        }
    }
}

/// Waits until something becomes of a thread, or of any if it is -1. `None`: not yet, with `WNOHANG`.
pub(super) fn wait(tid: pid_t, flags: c_int) -> Result<Option<(pid_t, Change)>, Errno> {
    let mut status = 0;
    loop {
        // SAFETY: `status` can be written.
        match Errno::result(unsafe { libc::waitpid(tid, &raw mut status, flags) }) {
            Ok(0) => return Ok(None),
            Ok(tid) => return Ok(Some((tid, Change::of(status)))),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

/// Waits until something becomes of a process, and leaves that to be waited for. Returns whether it has ended.
pub(super) fn has_ended(pid: pid_t) -> Result<bool, Errno> {
    // SAFETY: an all-zero `siginfo_t` is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    loop {
        let flags = OWN | libc::WEXITED | libc::WSTOPPED | libc::WNOWAIT;
        // SAFETY: `info` can be written.
        let result = unsafe { libc::waitid(libc::P_PID, pid as libc::id_t, &raw mut info, flags) };
        match Errno::result(result) {
            Ok(_) => {
                return Ok(matches!(info.si_code, libc::CLD_EXITED | libc::CLD_KILLED | libc::CLD_DUMPED));
            }
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
    }
}

fn request(request: c_uint, tid: pid_t, data: c_long) -> Result<(), Errno> {
    // SAFETY: none of the requests that are made through this function accesses memory of this process.
    Errno::result(unsafe { libc::ptrace(request, tid, ptr::null_mut::<c_void>(), data) }).map(|_| ())
}

/// Begins to trace a thread, without stopping it.
pub(super) fn seize(tid: pid_t, options: c_int) -> Result<(), Errno> {
    request(libc::PTRACE_SEIZE, tid, options.into())
}

/// Stops a seized thread.
pub(super) fn interrupt(tid: pid_t) -> Result<(), Errno> {
    request(libc::PTRACE_INTERRUPT, tid, 0)
}

/// Changes what is reported of a stopped thread.
pub(super) fn set_options(tid: pid_t, options: c_int) -> Result<(), Errno> {
    request(libc::PTRACE_SETOPTIONS, tid, options.into())
}

/// Lets a stopped thread go on, with the signal that it is about to receive, or 0.
pub(super) fn go_on(tid: pid_t, signal: c_int) -> Result<(), Errno> {
    request(libc::PTRACE_CONT, tid, signal.into())
}

/// The same until its next entry to or exit from a system call.
pub(super) fn to_next_call(tid: pid_t, signal: c_int) -> Result<(), Errno> {
    request(libc::PTRACE_SYSCALL, tid, signal.into())
}

/// Leaves a thread stopped that a signal has stopped, until another one continues it.
pub(super) fn leave_stopped(tid: pid_t) -> Result<(), Errno> {
    request(libc::PTRACE_LISTEN, tid, 0)
}

/// Ends tracing of a stopped thread and lets it go on.
pub(super) fn detach(tid: pid_t, signal: c_int) -> Result<(), Errno> {
    request(libc::PTRACE_DETACH, tid, signal.into())
}

/// The number that belongs to an event.
pub(super) fn event_message(tid: pid_t) -> Result<u64, Errno> {
    let mut message: libc::c_ulong = 0;
    // SAFETY: the kernel writes one unsigned long.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, ptr::null_mut::<c_void>(), &raw mut message) };
    Errno::result(result).map(|_| message)
}

/// A set of registers of a stopped thread, as words; a rest of less than a word is left out.
fn register_set(tid: pid_t, set: c_int, most: usize) -> Result<Vec<u64>, Errno> {
    let mut words = vec![0_u64; most];
    let mut place =
        libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words.as_slice()) };
    // SAFETY: the kernel writes at most `iov_len` bytes to `words`, and what it wrote to `iov_len`.
    let result =
        unsafe { libc::ptrace(libc::PTRACE_GETREGSET, tid, set as usize as *mut c_void, &raw mut place) };
    Errno::result(result)?;
    words.truncate(place.iov_len / size_of::<u64>());
    Ok(words)
}

/// Sets a word of a stopped thread's registers, by its offset in them.
#[cfg(target_arch = "x86_64")]
fn set_register(tid: pid_t, offset: usize, value: i64) -> Result<(), Errno> {
    // SAFETY: nothing in this process is accessed: address and data are an offset and a number.
    Errno::result(unsafe { libc::ptrace(libc::PTRACE_POKEUSER, tid, offset as *mut c_void, value) })
        .map(|_| ())
}
