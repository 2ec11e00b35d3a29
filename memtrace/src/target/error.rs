//! Why a process cannot be traced.

use std::{ffi::OsString, io, path::PathBuf};

/// An error of a target. Each says what to do, if anything can be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such process.
    #[error(
        "there is no process {0}: it has exited, or runs in another PID namespace (use the PID that `ps` shows here)"
    )]
    NoSuchProcess(u32),
    /// The pid is that of a thread.
    #[error("{tid} is a thread of process {pid}: use {pid}")]
    Thread {
        /// The thread.
        tid: u32,
        /// Its process.
        pid: u32,
    },
    /// A kernel thread has no memory of its own.
    #[error("process {pid} ({comm}) is a kernel thread: it has no user memory to trace")]
    KernelThread {
        /// The thread.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// Dead, but not reaped.
    #[error("process {pid} ({comm}) is a zombie: it has exited, and its memory is gone")]
    Zombie {
        /// The process.
        pid: u32,
        /// Its name.
        comm: String,
    },
    /// A 32-bit program, or one for another processor.
    #[error(
        "process {pid} ({comm}) cannot be traced: its program is {what}; memtrace traces 64-bit programs of this machine"
    )]
    Unsupported {
        /// The process.
        pid: u32,
        /// Its name.
        comm: String,
        /// Its kind.
        what: String,
    },
    /// /proc refused.
    #[error("cannot read {what} of process {pid}: {}", if nix::unistd::geteuid().is_root() {
        "not even root may, so a sandbox, a security module or another user namespace prevents it"
    } else {
        "this needs root, or CAP_SYS_PTRACE"
    })]
    Permission {
        /// The process.
        pid: u32,
        /// Which file.
        what: &'static str,
        /// The kernel's error.
        #[source]
        source: io::Error,
    },
    /// The process ended while it was being read.
    #[error("process {0} exited while memtrace was attaching to it")]
    Exited(u32),
    /// Something else about a process.
    #[error("cannot {what} process {pid}")]
    Process {
        /// The process.
        pid: u32,
        /// What was tried.
        what: &'static str,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// The command could not be started.
    #[error("cannot run {}", command.display())]
    Spawn {
        /// The command.
        command: PathBuf,
        /// The error.
        #[source]
        source: io::Error,
    },
    /// A variable of sudo does not identify its caller.
    #[error(
        "{variable} is {value:?}, not a number: the caller of sudo cannot be determined, and the command is not run as root \
         instead (give --user, or --user root)"
    )]
    Caller {
        /// Which.
        variable: &'static str,
        /// Its value.
        value: OsString,
    },
    /// `--user` names an unknown user.
    #[error("there is no user `{0}` (use a name or a number)")]
    NoSuchUser(String),
}

impl Error {
    /// Whether it says that the process has exited.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::NoSuchProcess(_) | Self::Zombie { .. } | Self::Exited(_))
    }
}
