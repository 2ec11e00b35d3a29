//! Keeps targets traced: living threads hold the probes, and breakpoints stay in the code.

use std::{
    num::NonZeroU32,
    time::{Duration, Instant},
};

use super::{
    holding::{Findings, Renewed},
    session::Session,
    watchdog::Look,
};
use crate::{
    profile::{Remark, Renewal},
    target::{profilers, threads},
};

/// Time between two turns.
pub(super) const TURN: Duration = Duration::from_secs(1);
/// Time between two checks of windows' probes.
const WINDOWS: Duration = Duration::from_secs(10);
/// How long a thread takes to end after the kernel has announced it.
const ENDING: Duration = Duration::from_millis(20);

/// When windows' probes were last checked.
#[derive(Debug, Default)]
pub(super) struct Watch {
    windows: Option<Instant>,
}

impl Session {
    /// Warns that a process profiles itself, and what of that tracing will disturb. Called before probes are
    /// attached.
    pub fn warn_of_profilers(&self, pid: NonZeroU32) {
        let Some(target) = self.targets.iter().find(|target| target.pid() == pid) else { return };
        if let Some(warning) = profilers::warning(pid.get(), &profilers::detect(pid.get(), &target.modules)) {
            (self.progress)(&warning);
        }
    }

    /// A thread ended that holds or held a target's probes.
    pub(super) fn thread_ended(&mut self, index: u32, main: bool, time: u64) {
        let Some(at) = self.targets.iter().position(|target| target.index == index) else { return };
        let Some(target) = self.targets.get_mut(at) else { return };
        let pid = target.pid().get();
        let ended = if main { pid } else { target.holder() };
        if main == target.is_held() || !threads::has_ended(pid, ended, ENDING) || target.process.has_exited()
        {
            return;
        }
        self.hold(at, Some(self.tracer.since_start(time)));
    }

    /// A turn of the watchdog. Called every [`TURN`].
    pub(super) fn watch(&mut self) {
        let runs = self.tracer.work().runs;
        for at in 0..self.targets.len() {
            let Some(target) = self.targets.get_mut(at) else { break };
            if target.process.has_exited() {
                continue;
            }
            let cpu = target.cpu_time();
            let look = target.holding.watchdog.turn(runs, cpu);
            target.settle(&mut self.tracer);
            self.hold(at, None);
            // In window mode probes are checked when a window opens.
            if look != Look::No && !self.control.in_windows() {
                self.look(at, look == Look::Closely);
            }
        }
        self.note_renewals();
        self.note_course();
        self.follow_turn();
        self.sweep();
    }

    /// Checks from time to time whether the probes of a window that was just opened are in place.
    pub(super) fn look_at_window(&mut self) {
        if self.watch.windows.is_some_and(|last| last.elapsed() < WINDOWS) {
            return;
        }
        self.watch.windows = Some(Instant::now());
        for at in 0..self.targets.len() {
            let Some(target) = self.targets.get_mut(at) else { break };
            let findings = target.examine(&self.tracer, true);
            self.note_findings(at, findings);
        }
    }

    fn hold(&mut self, at: usize, since: Option<Duration>) {
        let Some(target) = self.targets.get_mut(at) else { return };
        let failed = target.hold(&mut self.tracer, since).err().filter(|_| !target.process.has_exited());
        let pid = target.pid().get();
        let remark = failed.map(|error| Remark::ProbesUnheld { pid, error: format!("{error:#}") });
        self.remark(|known| matches!(known, Remark::ProbesUnheld { pid: of, .. } if *of == pid), remark);
    }

    /// Checks whether a target's breakpoints are in its code, and restores them.
    fn look(&mut self, at: usize, closely: bool) {
        let Some(target) = self.targets.get_mut(at) else { return };
        let mut findings = target.examine(&self.tracer, closely);
        if findings.plain > 0 {
            tracing::debug!("process {}: {findings:?}", target.pid());
            if let Err(error) = target.renew(&mut self.tracer, Renewal::Removed, None) {
                tracing::debug!("{error:#}");
            }
            findings = target.examine(&self.tracer, false);
        }
        self.note_findings(at, findings);
    }

    fn note_findings(&mut self, at: usize, findings: Findings) {
        let Some(target) = self.targets.get(at) else { return };
        if target.process.has_exited() {
            return;
        }
        let (pid, all, Findings { plain, copied, .. }) = (target.pid().get(), findings.all(), findings);
        let missing = (plain > 0).then_some(Remark::BreakpointsMissing { pid, missing: plain, all });
        let is_missing =
            |known: &Remark| matches!(known, Remark::BreakpointsMissing { pid: of, .. } if *of == pid);
        self.remark(is_missing, missing);
        let copied = (copied > 0).then_some(Remark::CodeCopied { pid, copied, all });
        self.remark(|known| matches!(known, Remark::CodeCopied { pid: of, .. } if *of == pid), copied);
    }

    /// Adds a remark on probes that had to be reattached, and counts the gap.
    pub(super) fn note_renewals(&mut self) {
        for at in 0..self.targets.len() {
            let Some(target) = self.targets.get_mut(at) else { break };
            let renewals = std::mem::take(&mut target.holding.renewals);
            // The threads of an exiting process end one by one.
            let Some(last) = renewals.last().filter(|_| !target.process.has_exited()) else { continue };
            target.holding.times += renewals.len();
            for Renewed { from, to, .. } in &renewals {
                self.control.unheard(*from, *to);
            }
            let Renewed { why, from, to } = *last;
            let remark = Remark::AttachedAnew {
                pid: target.pid().get(),
                times: target.holding.times,
                at: to.saturating_sub(self.started),
                why,
                gap: to.saturating_sub(from),
            };
            let pid = target.pid().get();
            self.remark(
                |known| matches!(known, Remark::AttachedAnew { pid: of, .. } if *of == pid),
                Some(remark),
            );
        }
    }
}
