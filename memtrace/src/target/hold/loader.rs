//! A command from its start until its dynamic loader is done.

use std::{io, os::unix::net::UnixStream, path::Path, sync::mpsc::Sender};

use libc::{c_int, pid_t};
use nix::errno::Errno;

use crate::target::{
    Progress,
    error::Error,
    maps,
    ptrace::{self, Change, OWN, registers},
};

/// The most system calls followed: a loader of a thousand libraries makes about ten thousand.
const MAX_STEPS: usize = 100_000;

/// Killed with the agent only while it is stopped: a stopped orphan would never end.
const STOPPED: c_int = libc::PTRACE_O_EXITKILL | libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACEEXEC;

/// What is reported until the end: threads begin traced and stop at their ends. Children are not traced: `fork` and
/// `vfork` are other events.
const UNTIL_THE_END: c_int = libc::PTRACE_O_TRACEEXIT | libc::PTRACE_O_TRACECLONE | libc::PTRACE_O_TRACEEXEC;

/// A command that has not been released.
pub(super) struct Loading {
    /// Its pid.
    pub(super) pid: pid_t,
    /// Whether it is traced and stopped.
    pub(super) is_held: bool,
    /// How it ended, if it has.
    pub(super) status: Option<c_int>,
}

impl Loading {
    /// Traces the child that waits at the gate, opens the gate and waits until the child has executed its program. The
    /// answer is sent; without an answer, it did not get there, and the one who started it knows why.
    pub(super) fn begin(gate: UnixStream, reply: &Sender<Result<Progress, Error>>) -> Result<Self, ()> {
        let pid = super::child_at(&gate).map_err(drop)?;
        if let Err(errno) = ptrace::seize(pid, STOPPED) {
            // With the gate it ends too.
            let _ = reply.send(Err(failed(pid, "trace", errno)));
            return Err(());
        }
        super::open(&gate).map_err(drop)?;
        drop(gate);
        // An end is left for `Command::spawn`, which waits for a child that could not execute its program.
        while let Ok(false) = ptrace::has_ended(pid) {
            match ptrace::wait(pid, OWN) {
                Ok(Some((_, Change::Event(libc::PTRACE_EVENT_EXEC, _)))) => {
                    let _ = reply.send(Ok(Progress::Mapped));
                    return Ok(Self { pid, is_held: true, status: None });
                }
                Ok(Some((_, change))) => {
                    let _ = answer(pid, change, ptrace::go_on);
                }
                _ => break,
            }
        }
        Err(())
    }

    /// Runs until the loader has mapped another executable file, or is done.
    pub(super) fn step(&mut self) -> Result<Progress, Error> {
        let loader = self.loader()?;
        let known = self.mapped_files()?;
        for _ in 0..MAX_STEPS {
            let (instruction, number) = match self.next_call() {
                Ok(call) => call,
                Err(Errno::ESRCH) => return Err(Error::Exited(self.id())),
                Err(errno) => return Err(failed(self.pid, "follow", errno)),
            };
            if loader.is_none_or(|(start, end)| !(start..end).contains(&instruction)) {
                return Ok(Progress::Ready);
            }
            if number == libc::SYS_mmap as u64 && self.mapped_files()? != known {
                return Ok(Progress::Mapped);
            }
        }
        Ok(Progress::Ready)
    }

    /// Lets it go.
    pub(super) fn release(&mut self) -> Result<(), Error> {
        self.let_go("release", |pid| ptrace::detach(pid, 0))
    }

    /// Lets it run, traced.
    pub(super) fn go_on_traced(&mut self) -> Result<(), Error> {
        self.let_go("hold", |pid| {
            ptrace::set_options(pid, UNTIL_THE_END)?;
            ptrace::go_on(pid, 0)
        })
    }

    fn let_go(&mut self, what: &'static str, how: fn(pid_t) -> Result<(), Errno>) -> Result<(), Error> {
        if self.status.is_some() {
            return Err(Error::Exited(self.id()));
        }
        how(self.pid).map_err(|errno| failed(self.pid, what, errno))?;
        self.is_held = false;
        Ok(())
    }

    /// Runs to the next entry to or exit from a system call. Returns where that was made from, and its number.
    fn next_call(&mut self) -> Result<(u64, u64), Errno> {
        if self.status.is_some() {
            return Err(Errno::ESRCH);
        }
        ptrace::to_next_call(self.pid, 0)?;
        loop {
            match ptrace::wait(self.pid, OWN)? {
                Some((_, Change::Call)) => {
                    let place = registers::place(self.pid).ok_or(Errno::ESRCH)?;
                    return Ok((place.instruction, place.call));
                }
                Some((_, Change::Ended(status))) => {
                    self.status = Some(status);
                    return Err(Errno::ESRCH);
                }
                Some((_, change)) => answer(self.pid, change, ptrace::to_next_call)?,
                None => {}
            }
        }
    }

    /// Where the dynamic loader is mapped: of the two files mapped at exec the one that is not the program.
    /// `None` for a static program.
    fn loader(&self) -> Result<Option<(u64, u64)>, Error> {
        let exe = std::fs::read_link(format!("/proc/{}/exe", self.pid)).unwrap_or_default();
        let mappings = maps::executable(self.id()).map_err(|source| self.unreadable(source))?;
        Ok(mappings
            .iter()
            .find(|mapping| {
                let name = mapping.name.rsplit('/').next().unwrap_or_default();
                mapping.inode.1 != 0
                    && Path::new(&mapping.name) != exe
                    && (name.starts_with("ld-") || name.starts_with("ld.so") || name.starts_with("ld64"))
            })
            .map(|mapping| (mapping.start, mapping.end)))
    }

    fn mapped_files(&self) -> Result<Vec<(u64, u64)>, Error> {
        let mappings = maps::executable(self.id()).map_err(|source| self.unreadable(source))?;
        Ok(mappings.into_iter().filter(|mapping| mapping.inode.1 != 0).map(|mapping| mapping.inode).collect())
    }

    fn id(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    fn unreadable(&self, source: io::Error) -> Error {
        Error::Process { pid: self.id(), what: "read the mappings of", source }
    }
}

/// Lets a thread go on that has stopped for a signal or an event: with its signal, and stopped if that was its effect.
pub(super) fn answer(
    tid: pid_t,
    change: Change,
    go_on: fn(pid_t, c_int) -> Result<(), Errno>,
) -> Result<(), Errno> {
    match change {
        Change::Ended(_) => Ok(()),
        Change::Signal(signal) => go_on(tid, signal),
        Change::Event(libc::PTRACE_EVENT_STOP, signal) if is_stopping(signal) => ptrace::leave_stopped(tid),
        Change::Event(..) | Change::Call => go_on(tid, 0),
    }
}

/// Whether a signal stops a process.
pub(super) fn is_stopping(signal: c_int) -> bool {
    matches!(signal, libc::SIGSTOP | libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU)
}

fn failed(pid: pid_t, what: &'static str, errno: Errno) -> Error {
    Error::Process { pid: pid.unsigned_abs(), what, source: errno.into() }
}
