//! A traced command from its release to its end, at which it is held.
//!
//! Every thread stops at its end. Whether the process ends with it:
//!
//! - no other thread is left: it does;
//! - the thread called `exit_group` or was killed (`PF_SIGNALED`): the others are being killed too, and so they are when
//!   one of them calls `exec`. That one does not end: it waits for the others in its call, with no SIGKILL pending;
//! - otherwise only the thread ends.

use std::{
    collections::BTreeMap,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::Arc,
    time::{Duration, Instant},
};

use libc::{c_int, pid_t};
use nix::errno::Errno;

use super::{loader, shared::Shared, wait_out};
use crate::{
    model::ThreadRegisters,
    target::{
        ptrace::{self, Change, OWN, registers},
        threads,
    },
};

/// How long the first thread at its end waits for the others.
const GATHER: Duration = Duration::from_secs(1);

/// Time between two looks at threads that have not arrived.
const LOOK: Duration = Duration::from_millis(1);

/// Time between two looks at a command that is held.
const HELD: Duration = Duration::from_millis(10);

/// Where a thread is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It runs, or waits for something.
    Living,
    /// It is stopped at its end.
    Arrived,
    /// It was let go from there.
    Leaving,
}

/// A command that is to be held at its end.
pub(super) struct Ending {
    pid: pid_t,
    shared: Arc<Shared>,
    limit: Duration,
    notice: UnixStream,
    threads: BTreeMap<pid_t, Stage>,
    /// Registers of threads that were at their ends, since the first of them.
    registers: Vec<ThreadRegisters>,
    /// Until when others are waited for.
    gathering: Option<Instant>,
}

impl Ending {
    /// A process with one thread, to be held for `limit` at most.
    pub(super) fn new(pid: pid_t, shared: Arc<Shared>, limit: Duration, notice: UnixStream) -> Self {
        Self {
            pid,
            shared,
            limit,
            notice,
            threads: BTreeMap::from([(pid, Stage::Living)]),
            registers: Vec::new(),
            gathering: None,
        }
    }

    /// Follows it to its end. Returns its status of `waitpid`.
    pub(super) fn follow(mut self) -> Option<c_int> {
        loop {
            let flags = if self.gathering.is_some() { OWN | libc::WNOHANG } else { OWN };
            match ptrace::wait(-1, flags) {
                Ok(Some((tid, change))) => {
                    if let Some(status) = self.take(tid, change) {
                        return Some(status);
                    }
                }
                Ok(None) => self.look_for_exec(),
                // Nothing of it is traced any more.
                Err(Errno::ECHILD) => return wait_out(self.pid),
                Err(_) => return None,
            }
            if let Some(until) = self.gathering
                && (!self.is_any(Stage::Living) || Instant::now() >= until)
            {
                self.gathering = None;
                if self.is_any_to_stay() {
                    // The one that writes a core file, on kernels where the others wait for it behind this place.
                    self.let_arrived_go();
                } else if let Some(status) = self.hold() {
                    return Some(status);
                }
            }
        }
    }

    /// Does what a change of a thread demands. Returns the status of the process, if that has ended.
    fn take(&mut self, tid: pid_t, change: Change) -> Option<c_int> {
        match change {
            Change::Ended(status) => {
                self.threads.remove(&tid);
                return (tid == self.pid).then_some(status);
            }
            Change::Event(libc::PTRACE_EVENT_EXIT, _) => self.arrive(tid),
            // Of a process that is not held, each thread is let go when it stops the next time.
            change if !self.shared.is_wanted() => {
                let signal = match change {
                    Change::Signal(signal) => signal,
                    _ => 0,
                };
                self.detach(tid, signal);
            }
            Change::Event(libc::PTRACE_EVENT_STOP, _) if !self.is_known(tid) => self.detach(tid, 0),
            change => {
                match change {
                    Change::Event(libc::PTRACE_EVENT_CLONE, _) => {
                        self.is_known(event_thread(tid));
                    }
                    Change::Event(libc::PTRACE_EVENT_EXEC, _) => {
                        self.threads = BTreeMap::from([(tid, Stage::Living)]);
                    }
                    // An untraced one that is stopped and continued sees its call fail.
                    Change::Signal(signal) if !loader::is_stopping(signal) => {
                        registers::restart_unless_handled(tid);
                    }
                    _ => {}
                }
                // It can have been killed meanwhile, which it then says.
                let _ = loader::answer(tid, change, ptrace::go_on);
            }
        }
        None
    }

    /// Whether a thread is the command's; remembers it. Children with a signal of their own at their end begin traced
    /// like threads.
    fn is_known(&mut self, tid: pid_t) -> bool {
        if self.threads.contains_key(&tid) {
            return true;
        }
        let is_thread = threads::exists(self.pid.unsigned_abs(), tid.unsigned_abs());
        if is_thread {
            self.threads.insert(tid, Stage::Living);
        }
        is_thread
    }

    /// Takes a thread that is at its end.
    fn arrive(&mut self, tid: pid_t) {
        if !self.shared.is_wanted() || !self.is_known(tid) {
            self.detach(tid, 0);
            return;
        }
        let mut others = self.threads.iter().filter(|(other, _)| **other != tid);
        let is_last = others.all(|(_, stage)| *stage == Stage::Leaving);
        let place = registers::place(tid).unwrap_or_default();
        let is_with_others = place.call == libc::SYS_exit_group as u64
            || threads::was_killed(self.pid.unsigned_abs(), tid.unsigned_abs());
        if !is_last && !is_with_others {
            self.let_go(tid);
            return;
        }
        self.registers.push(registers::all(tid));
        self.threads.insert(tid, Stage::Arrived);
        self.gathering.get_or_insert_with(|| Instant::now() + GATHER);
    }

    /// Lets the others end if they do so because a thread executes another program; else waits a moment.
    fn look_for_exec(&mut self) {
        let pid = self.pid.unsigned_abs();
        let is_exec = self.with(Stage::Living).any(|tid| threads::is_in_exec(pid, tid.unsigned_abs()));
        if is_exec {
            self.gathering = None;
            self.let_arrived_go();
            self.registers.clear();
        } else {
            std::thread::sleep(LOOK);
        }
    }

    /// Whether a thread that has not arrived is not about to be killed either.
    fn is_any_to_stay(&self) -> bool {
        let pid = self.pid.unsigned_abs();
        self.with(Stage::Living).any(|tid| {
            threads::lives(pid, tid.unsigned_abs()) && !threads::is_killed(pid, tid.unsigned_abs())
        })
    }

    /// Holds the process until it is released, killed once more, or the limit has passed. Returns its status if it ended
    /// meanwhile.
    fn hold(&mut self) -> Option<c_int> {
        let mut threads = std::mem::take(&mut self.registers);
        let unknown = |tid: pid_t| ThreadRegisters { tid: tid.unsigned_abs(), ..ThreadRegisters::default() };
        threads.extend(self.with(Stage::Living).map(unknown));
        self.shared.set_held(Some(threads));
        // It can be read from once more at the end, and all of it fits.
        let _ = self.notice.write_all(&[1]);
        let end = Instant::now() + self.limit;
        let mut status = None;
        while status.is_none()
            && self.is_any(Stage::Arrived)
            && Instant::now() < end
            && self.shared.is_wanted_after(HELD)
        {
            while let Ok(Some((tid, change))) = ptrace::wait(-1, OWN | libc::WNOHANG) {
                match change {
                    Change::Event(libc::PTRACE_EVENT_EXIT, _) => {
                        self.threads.insert(tid, Stage::Arrived);
                    }
                    change => status = self.take(tid, change).or(status),
                }
            }
        }
        self.shared.set_held(None);
        self.shared.want(false);
        self.let_arrived_go();
        status
    }

    fn let_arrived_go(&mut self) {
        let arrived: Vec<pid_t> = self.with(Stage::Arrived).collect();
        for tid in arrived {
            self.let_go(tid);
        }
    }

    /// Lets a thread end.
    fn let_go(&mut self, tid: pid_t) {
        self.threads.insert(tid, Stage::Leaving);
        let _ = ptrace::go_on(tid, 0);
    }

    /// Traces a thread no longer.
    fn detach(&mut self, tid: pid_t, signal: c_int) {
        self.threads.remove(&tid);
        let _ = ptrace::detach(tid, signal);
    }

    fn with(&self, wanted: Stage) -> impl Iterator<Item = pid_t> {
        self.threads.iter().filter(move |(_, stage)| **stage == wanted).map(|(tid, _)| *tid)
    }

    fn is_any(&self, stage: Stage) -> bool {
        self.with(stage).next().is_some()
    }
}

/// The thread that another has made; 0 if that is not known.
fn event_thread(tid: pid_t) -> pid_t {
    ptrace::event_message(tid).ok().and_then(|message| pid_t::try_from(message).ok()).unwrap_or_default()
}
