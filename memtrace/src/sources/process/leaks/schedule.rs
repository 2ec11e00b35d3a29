//! When processes are checked, and what becomes of the results.

use std::{
    cmp::Reverse,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Answer, Found, LeakOptions, When,
    check::Failure,
    job::{Census, Job, Outcome},
    worker::Worker,
};
use crate::{
    profile::{LeakCheck, Moment, Remark},
    sources::process::{counting::Phase, session::Session, traced::Traced},
};

/// Scans of a running process, and the time between two of them.
pub(in crate::sources::process) const SCANS: u32 = 3;
pub(in crate::sources::process) const SPACING: Duration = Duration::from_millis(500);
/// The same within a window.
pub(super) const SPACING_IN_WINDOW: Duration = Duration::from_millis(20);
/// By how much a window is longer for a check, before the first one was made.
pub(super) const LEAST_IN_WINDOW: Duration = Duration::from_millis(100);
/// When the first check begins, and the least time between two.
const FIRST: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(1);
/// Where checking was declined or failed, it is tried again after this time.
const LATER: Duration = Duration::from_secs(30);
/// With `Auto`, CPU time of the agent for one scan at most.
pub(super) const AFFORDABLE: Duration = Duration::from_secs(2);
/// The most time for one scan, with `Always` too.
pub(in crate::sources::process) const LONGEST: Duration = Duration::from_secs(300);
/// The share of one processor that checks take at most: as much as tracing does by default.
const SHARE: f64 = 0.1;
/// The share where checks become rare with time.
const SHARE_IF_SELDOM: f64 = 0.003;
/// There, the pause between two checks of a process is at most the time traced so far divided by this.
const SELDOM: u32 = 4;
/// And at most this, as long as checks take no more than [`SHARE`].
const RAREST: Duration = Duration::from_secs(30);
/// Bytes read per second at most, so that the target's memory bandwidth is not taken.
pub(in crate::sources::process) const RATE: u64 = 1 << 30;
/// Before anything was measured: CPU time of a scan for each byte of memory, in ns.
pub(super) const NS_PER_BYTE: f64 = 0.7;
/// Stacks whose holders are named: those that hold most since tracing began.
const HOLDERS: usize = 32;
/// So many windows in a row that were too short are reported.
const SHORT_WINDOWS: u32 = 3;

impl Session {
    /// Tracing has begun.
    pub(in crate::sources::process) fn begin_leaks(&mut self) {
        self.leaks.next = self.started + FIRST;
        if self.leaks.options.when != When::Off {
            // What it loads takes longer than a window is open.
            self.start_worker();
        }
    }

    /// Starts the thread for checks, if there is none.
    fn start_worker(&mut self) {
        if self.leaks.worker.is_some() {
            return;
        }
        let live = self.tracer.live().try_clone();
        match live.and_then(|live| Worker::start(live, Arc::clone(&self.files))) {
            Ok(worker) => self.leaks.worker = Some(worker),
            Err(error) => tracing::debug!("no leak checks: {error}"),
        }
    }

    /// Begins a check if one is due and can be made now.
    pub(in crate::sources::process) fn look_for_leaks(&mut self) {
        let now = self.tracer.elapsed();
        if self.leaks.due().is_none_or(|due| now < due) {
            return;
        }
        let spacing = match self.control.phase {
            Phase::Attached => SPACING,
            Phase::Counting(..) if Instant::now() >= self.control.until => SPACING_IN_WINDOW,
            Phase::Waiting | Phase::Counting(..) | Phase::Watching(..) => return,
        };
        let Some(watched_since) = self.control.watched_since() else { return };
        let Some(target) = self.next_to_check() else {
            self.leaks.next = now + PAUSE;
            return;
        };
        let (index, id, pid) = (target.index, target.id(), target.pid().get());
        if let Some(remark) = self.leaks.declines(index, pid) {
            self.leaks.failed.insert(index, remark);
            self.leaks.found.remove(&index);
            self.leaks.last = Some(index);
            self.leaks.next = now + LATER;
            return;
        }
        let job = self.job(id, pid, watched_since, spacing);
        self.start_check(index, job);
    }

    /// A check of a living process.
    pub(super) fn job(&self, id: u32, pid: u32, watched_since: Duration, spacing: Duration) -> Job {
        let LeakOptions { when, stop, unaligned, .. } = self.leaks.options;
        let stacks = self.growing(id);
        Job {
            pid,
            target: id,
            watched_since,
            scans: if stop { 1 } else { SCANS },
            spacing,
            unaligned,
            // A process that is stopped is to go on as soon as possible.
            rate: if stop { 0 } else { RATE },
            limit: if when == When::Auto { AFFORDABLE * 4 } else { LONGEST },
            moment: if stop { Moment::Stopped } else { Moment::Running },
            held: None,
            all_known: false,
            // In a window there is no time for it.
            census: if spacing == SPACING { Census::First } else { Census::Last },
            exact: self.control.gaps == 0
                && !self.control.sampled()
                && self.uncounted(&self.tracer.losses(false)).is_none(),
            stacks,
            doubt: true,
        }
    }

    /// The time until the next check after one that took `cpu`.
    fn pause(&self, now: Duration, cpu: Duration) -> Duration {
        let least = PAUSE.max(cpu.div_f64(SHARE));
        if !self.leaks.options.seldom {
            return least;
        }
        let living = self.targets.iter().filter(|target| !target.process.has_exited()).count().max(1);
        let longest = RAREST.min(now.saturating_sub(self.started) / SELDOM) / living as u32;
        least.max(longest.min(cpu.div_f64(SHARE_IF_SELDOM)))
    }

    /// Hands a job to the thread.
    pub(super) fn start_check(&mut self, index: u32, job: Job) {
        self.start_worker();
        self.leaks.last = Some(index);
        self.leaks.running = self.leaks.worker.as_ref().and_then(|worker| worker.check(index, job));
        if self.leaks.running.is_none() {
            self.leaks.next = self.tracer.elapsed() + LATER;
        }
    }

    /// Slots of the stacks that hold most, of a program of a process: who holds their blocks is of interest.
    fn growing(&self, target: u32) -> Vec<u32> {
        let mut stacks: Vec<(u32, u64)> = self
            .tracer
            .stacks()
            .filter(|stack| stack.target == target && stack.hash != 0)
            .map(|stack| (stack.slot, stack.allocated.bytes.saturating_sub(stack.freed.bytes)))
            .collect();
        stacks.sort_by_key(|(_, bytes)| Reverse(*bytes));
        stacks.into_iter().take(HOLDERS).map(|(slot, _)| slot).collect()
    }

    /// The living process whose turn it is.
    fn next_to_check(&self) -> Option<&Traced> {
        let last = self.leaks.last;
        let mut living: Vec<&Traced> =
            self.targets.iter().filter(|target| !target.process.has_exited()).collect();
        living.sort_by_key(|target| (last.is_some_and(|last| target.index <= last), target.index));
        living.first().copied()
    }

    /// Takes the result of a check.
    pub(in crate::sources::process) fn take_answer(&mut self, Answer(result): Answer) {
        let now = self.tracer.elapsed();
        let Some(running) = self.leaks.running.take() else { return };
        self.black_box.has_checked();
        if running.moment == Moment::AtExit {
            self.leaks.hold = None;
        }
        let in_window = self.control.in_windows();
        let index = running.index;
        let target = self.targets.iter().find(|target| target.index == index);
        let pid = target.map_or(0, |target| target.pid().get());
        let has_ended = target.is_none_or(|target| target.process.has_exited());
        let is_reaped = self.black_box.is_reaped(pid);
        match if is_reaped { Err(Failure::Gone) } else { result } {
            Ok(outcome) => {
                let at = outcome.check.at.saturating_sub(self.started);
                let check = LeakCheck { at, ..outcome.check };
                tracing::debug!(
                    "leak check of process {pid}: {check:?}, {} freed later",
                    outcome.count.freed_later
                );
                self.leaks.short = 0;
                if in_window {
                    self.leaks.in_window = check.took + SPACING_IN_WINDOW * check.scans;
                }
                self.leaks.next = now + self.pause(now, check.cpu);
                self.leaks.failed.remove(&index);
                if outcome.count.freed_later > 0 {
                    let remark = Remark::LostFreedLater { pid, blocks: outcome.count.freed_later };
                    self.leaks.freed_later.insert(index, remark);
                }
                let Outcome { count, holders, .. } = outcome;
                self.leaks.found.insert(index, Found { check, stacks: count.stacks, holders });
            }
            Err(failure) => {
                tracing::debug!("leak check of process {pid}: {failure}");
                self.leaks.next = now + PAUSE;
                let remark = match failure {
                    Failure::Cut if in_window => {
                        self.leaks.short += 1;
                        (self.leaks.short >= SHORT_WINDOWS).then_some(Remark::NoLeakCheckInWindows { pid })
                    }
                    Failure::Cut | Failure::Gone => None,
                    // It ended while its memory was read.
                    Failure::Io(_) if has_ended => None,
                    Failure::RootMissing { lost, checked } => {
                        self.leaks.found.remove(&index);
                        Some(Remark::RootMissing { pid, lost, checked })
                    }
                    failure @ (Failure::Blocks(_)
                    | Failure::Refused(_)
                    | Failure::Io(_)
                    | Failure::Stop(_)) => {
                        self.leaks.next = now + LATER;
                        Some(Remark::LeakCheckFailed { pid, error: failure.to_string() })
                    }
                };
                if let Some(remark) = remark {
                    self.leaks.failed.insert(index, remark);
                }
            }
        }
    }
}
