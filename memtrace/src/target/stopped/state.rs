//! What has become of a thread that is to stop.

use std::{fs, mem};

use crate::target::ptrace::OWN;

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

/// Whether a seized thread has stopped, without waiting. The kernel keeps one that has ended until it is asked for here;
/// but if that is a process that this one has started, its exit status is for whoever waits for it.
pub(super) fn state(tid: i32) -> State {
    let options = libc::WNOHANG | OWN;
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
