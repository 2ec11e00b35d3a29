//! A command's keeper: a thread of the agent that traces it from its start, and holds it at its end.
//!
//! ptrace belongs to a thread, and whoever waits for a traced child takes what its tracer waits for. So everything that
//! waits for the command is here, and the rest of the agent asks the keeper (`shared`). The command is seized, not made
//! to trace itself: a seized one can be left stopped by a signal (`PTRACE_LISTEN`), as job control needs it, and goes on
//! unharmed when the agent is killed.

mod ending;
mod loader;
mod shared;
#[cfg(test)]
mod tests;

use std::{
    io::{self, Read as _, Write as _},
    os::{
        fd::{AsRawFd, RawFd},
        unix::{net::UnixStream, process::ExitStatusExt as _},
    },
    process::ExitStatus,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use libc::pid_t;
use nix::{errno::Errno, sys::signal::SigSet};

use self::{ending::Ending, loader::Loading, shared::Shared};
use super::{Progress, error::Error, ptrace};
use crate::model::ThreadRegisters;

/// What a keeper is asked to do with a command that has not been released.
#[derive(Debug)]
pub(super) enum Request {
    /// Let the loader take a step.
    Step,
    /// Let it go.
    Release,
    /// Let it go on, and hold it at its end for `limit` at most.
    Hold {
        /// How long.
        limit: Duration,
        /// Tells the other side that it is held, or has ended.
        notice: UnixStream,
    },
}

/// A command that was let go, but will be held at its end, while it still has its memory. The descriptor can be read
/// from when it is held, and when it has ended.
///
/// The command is held once every thread has arrived at its end (`PTRACE_EVENT_EXIT`), or one second after the first:
/// whether it called `exit`, was killed by a signal or its last thread ended. A thread that ends while others go on
/// is not kept waiting, and neither are those that end because another calls `exec`. A second SIGKILL ends it at once.
///
/// Until its end the command is traced: nobody else can (debuggers, crash handlers, `LeakSanitizer`), and a signal and the
/// start and end of a thread wait for the agent (tens of microseconds, longer while the agent itself is stopped). A
/// signal that it ignores makes `epoll_wait` and the few other calls that no kernel restarts begin again with their full
/// time (on aarch64: fail with EINTR). Its children are not traced. If the agent dies, it goes on as if it had never been
/// traced.
///
/// Dropping this releases the command, be it held or not.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    news: UnixStream,
}

impl Hold {
    /// Registers of the command's threads, if it is held. A thread that did not arrive in time has none. Memory can be
    /// read by the id of a thread of the list, or of [`super::threads::living`]: the main thread may have ended.
    #[must_use]
    pub fn threads(&self) -> Option<Vec<ThreadRegisters>> {
        self.shared.held()
    }
}

impl AsRawFd for Hold {
    fn as_raw_fd(&self) -> RawFd {
        self.news.as_raw_fd()
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.want(false);
    }
}

/// The agent's side of a keeper.
#[derive(Debug)]
pub(super) struct Keeper {
    /// The command, once it has been started.
    pid: u32,
    shared: Arc<Shared>,
    requests: Option<Sender<Request>>,
    answers: Receiver<Result<Progress, Error>>,
}

impl Keeper {
    /// Starts the thread. The command sends its pid through the gate, and waits there until it is traced.
    ///
    /// # Errors
    /// There are too many threads.
    pub(super) fn start(gate: UnixStream) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let (requests, to_do) = channel();
        let (reply, answers) = channel();
        let desk = Desk { shared: Arc::clone(&shared), requests: to_do, reply };
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || {
            // Signals of the agent are for its other threads.
            let _ = SigSet::all().thread_set_mask();
            desk.keep(gate);
            // A thread that ends by itself must not be the last one with links (see `bpf::process`).
            loop {
                std::thread::park();
            }
        })?;
        Ok(Self { pid: 0, shared, requests: Some(requests), answers })
    }

    /// Waits until process `pid`, the command, is stopped before its first instruction.
    ///
    /// # Errors
    /// It cannot be traced, or has ended.
    pub(super) fn is_ready(&mut self, pid: u32) -> Result<(), Error> {
        self.pid = pid;
        self.answer().map(|_| ())
    }

    /// Why a command that could not be started was not let through its gate; `None` if it was.
    pub(super) fn refusal(&self) -> Option<Error> {
        self.answers.recv().ok()?.err()
    }

    /// Asks for something, and waits until it is done.
    ///
    /// # Errors
    /// The command has ended.
    pub(super) fn ask(&self, request: Request) -> Result<Progress, Error> {
        if let Some(requests) = &self.requests {
            // If nobody is there, nobody answers.
            let _ = requests.send(request);
        }
        self.answer()
    }

    fn answer(&self) -> Result<Progress, Error> {
        self.answers.recv().unwrap_or(Err(Error::Exited(self.pid)))
    }

    /// The command will not be asked for anything any more: it has been killed.
    pub(super) fn give_up(&mut self) {
        self.requests = None;
    }

    /// The handle of a command that is to be held. `news`: the other end of its notice.
    pub(super) fn hold(&self, news: UnixStream) -> Hold {
        Hold { shared: Arc::clone(&self.shared), news }
    }

    /// The command is to be held no longer.
    pub(super) fn let_go(&self) {
        self.shared.want(false);
    }

    /// How the command ended.
    pub(super) fn exit_status(&self) -> Option<ExitStatus> {
        self.shared.status()
    }

    /// Waits for the command's end.
    pub(super) fn wait(&self) -> ExitStatus {
        self.shared.wait()
    }
}

/// The keeper's side.
struct Desk {
    shared: Arc<Shared>,
    requests: Receiver<Request>,
    reply: Sender<Result<Progress, Error>>,
}

impl Desk {
    /// Keeps a command from its start to its end.
    fn keep(self, gate: UnixStream) {
        let Ok(mut loading) = Loading::begin(gate, &self.reply) else { return };
        let status = match self.serve(&mut loading) {
            Some(after) => after.follow(),
            None => loading.status.or_else(|| wait_out(loading.pid)),
        };
        // Without a status the process has been waited for by somebody else: that is a failure, as it was before.
        self.shared.end(ExitStatus::from_raw(status.unwrap_or(1 << 8)));
    }

    /// Does what is asked until the command is released. Returns how to hold it, if it is to be held.
    fn serve(&self, loading: &mut Loading) -> Option<Ending> {
        for request in self.requests.iter() {
            let answer = match request {
                Request::Step => loading.step(),
                Request::Release => loading.release().map(|()| Progress::Ready),
                Request::Hold { limit, notice } => {
                    self.shared.want(true);
                    let ending = Ending::new(loading.pid, Arc::clone(&self.shared), limit, notice);
                    let begun = loading.go_on_traced();
                    let is_begun = begun.is_ok();
                    let _ = self.reply.send(begun.map(|()| Progress::Ready));
                    return is_begun.then_some(ending);
                }
            };
            let is_over = answer.is_ok() && !loading.is_held;
            let _ = self.reply.send(answer);
            if is_over {
                return None;
            }
        }
        None
    }
}

/// Waits for the end of a process that is not traced.
fn wait_out(pid: pid_t) -> Option<i32> {
    loop {
        match ptrace::wait(pid, libc::__WALL) {
            Ok(Some((_, ptrace::Change::Ended(status)))) => return Some(status),
            // It was killed while it was traced.
            Ok(Some((tid, _))) => {
                let _ = ptrace::detach(tid, 0);
            }
            Ok(None) | Err(Errno::EAGAIN) => {}
            Err(_) => return None,
        }
    }
}

/// Reads the pid that a child sends through its gate.
fn child_at(mut gate: &UnixStream) -> io::Result<pid_t> {
    let mut pid = [0; size_of::<pid_t>()];
    gate.read_exact(&mut pid)?;
    Ok(pid_t::from_ne_bytes(pid))
}

/// Opens a child's gate.
fn open(mut gate: &UnixStream) -> io::Result<()> {
    gate.write_all(&[1])
}
