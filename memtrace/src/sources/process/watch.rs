//! What a session does to keep hearing its targets: probes go by living threads, breakpoints stay in the code.

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
/// The same between two looks at windows' probes.
const WINDOWS: Duration = Duration::from_secs(10);
/// How long a thread takes to end once the kernel has said so.
const ENDING: Duration = Duration::from_millis(20);

/// When windows' probes were looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    windows: Option<Instant>,
}

impl Session {
    /// Says that a process profiles itself, and what of that is going to be disturbed. To be called before probes are
    /// attached.
    pub fn warn_of_profilers(&self, pid: NonZeroU32) {
        let Some(target) = self.targets.iter().find(|target| target.pid() == pid) else { return };
        if let Some(warning) = profilers::warning(pid.get(), &profilers::detect(pid.get(), &target.modules)) {
            (self.progress)(&warning);
        }
    }

    /// A thread ended that a target's probes go by, or went by.
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

    /// A turn of the watchdog. To be called every [`TURN`].
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
            // In windows probes come and go: each is looked at when it opens.
            if look != Look::No && !self.control.in_windows() {
                self.look(at, look == Look::Closely);
            }
        }
        self.note_renewals();
    }

    /// Looks whether the probes of a window that has just been opened are in place, now and then.
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

    /// Looks whether a target's breakpoints are in its code, and puts them there again.
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

    /// Tells the reader what had to be attached anew, and that it was unheard meanwhile.
    pub(super) fn note_renewals(&mut self) {
        for at in 0..self.targets.len() {
            let Some(target) = self.targets.get_mut(at) else { break };
            let renewals = std::mem::take(&mut target.holding.renewals);
            // The threads of a process that ends do so one by one.
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
