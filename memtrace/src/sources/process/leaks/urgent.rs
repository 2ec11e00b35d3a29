//! A check out of turn, because memory is about to run out.

use super::schedule::SPACING_IN_WINDOW;
use crate::{
    profile::Moment,
    sources::process::{counting::Phase, session::Session},
};

impl Session {
    /// Begins to check a target now, whatever that costs and whenever checks are wanted otherwise. Returns whether there will be a
    /// result, also of a check that is under way.
    pub(in crate::sources::process) fn check_at_once(&mut self, index: u32) -> bool {
        if self.leaks.is_running() {
            return true;
        }
        let is_attached = matches!(self.control.phase, Phase::Attached);
        if self.leaks.options.when == super::When::Off || !is_attached {
            return false;
        }
        let Some(target) = self.targets.iter().find(|target| target.index == index) else { return false };
        if target.process.has_exited() {
            return false;
        }
        let (id, pid) = (target.id(), target.pid().get());
        let Some(watched_since) = self.control.watched_since() else { return false };
        let mut job = self.job(id, pid, watched_since, SPACING_IN_WINDOW);
        if job.moment == Moment::Running {
            // Its own time is short.
            job.rate = 0;
        }
        self.start_check(index, job);
        self.leaks.is_running()
    }
}
