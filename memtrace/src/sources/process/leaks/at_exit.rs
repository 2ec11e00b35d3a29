//! The check of a command that is held at its end.

use std::time::Duration;

use super::{
    job::{Census, Job},
    schedule::LONGEST,
};
use crate::{
    profile::{Moment, Remark},
    session::Watched,
    sources::process::session::Session,
    target::Hold,
};

impl Session {
    /// Waits for the command's end from now on.
    ///
    /// # Errors
    /// Its descriptor cannot be watched.
    pub(in crate::sources::process) fn watch_hold(&mut self) -> anyhow::Result<()> {
        self.leaks.hold = self.leaks.to_hold.take().map(Watched::new).transpose()?;
        Ok(())
    }

    /// A command will be held at its end, and is to be checked then.
    pub fn hold_at_exit(&mut self, hold: Hold) {
        self.leaks.to_hold = Some(hold);
    }

    /// No command is held any longer, nor will be.
    pub fn release(&mut self) {
        self.leaks.cancel();
        self.leaks.hold = None;
        self.leaks.to_hold = None;
    }

    /// The memory of a process is being taken away.
    pub(in crate::sources::process) fn release_reaped(&mut self, pid: u32) {
        let of = |index: u32| self.targets.iter().find(|target| target.index == index);
        let is_its = |index: u32| of(index).is_some_and(|target| target.pid().get() == pid);
        if self.leaks.running.as_ref().is_some_and(|running| is_its(running.index)) {
            self.leaks.cancel();
        }
        // A command is the first target.
        if self.targets.first().is_some_and(|target| target.pid().get() == pid) {
            self.leaks.hold = None;
        }
    }

    /// The command is held at its end, or has ended.
    pub(in crate::sources::process) fn check_at_exit(&mut self) {
        // It may have called exec.
        self.catch_up();
        // What it leaves behind has another parent afterwards.
        self.follow_existing();
        let threads = self.leaks.hold.as_mut().and_then(|hold| hold.inner().threads());
        let target = self.targets.first().filter(|target| !target.allocators.is_empty());
        let target = target.map(|target| (target.index, target.id(), target.pid().get()));
        let (Some(held), Some((index, id, pid))) = (threads, target) else {
            self.leaks.hold = None;
            return;
        };
        if let Some(hold) = &mut self.leaks.hold {
            hold.exhausted();
        }
        self.leaks.cancel();
        // Its probes were in place before it ran.
        let watched_since = match self.control.watched_since() {
            Some(_) if self.control.gaps == 0 => Some(Duration::ZERO),
            since => since,
        };
        let declined = match watched_since {
            None => Some(Remark::NoLeakCheckInWindows { pid }),
            Some(_) => self.leaks.declines(index, pid),
        };
        if let Some(remark) = declined {
            self.leaks.failed.insert(index, remark);
            self.leaks.hold = None;
            return;
        }
        let job = Job {
            pid,
            target: id,
            watched_since: watched_since.unwrap_or_default(),
            scans: 1,
            spacing: Duration::ZERO,
            unaligned: self.leaks.options.unaligned,
            rate: 0,
            limit: LONGEST,
            moment: Moment::AtExit,
            held: Some(held),
            all_known: self.knows_all_blocks(index),
            census: Census::Never,
            exact: false,
            stacks: Vec::new(),
            doubt: false,
        };
        self.start_check(index, job);
        if self.leaks.running.is_none() {
            self.leaks.hold = None;
        }
    }
}
