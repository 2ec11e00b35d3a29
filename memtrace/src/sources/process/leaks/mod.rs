//! Leak checks of the traced processes: when, and what became of them. The scans are on a thread of their own ([`worker`]).

mod check;
mod decided;
mod memory;
mod owners;
mod worker;

use std::{cmp::Reverse, sync::Arc, time::Duration};

use rustc_hash::FxHashMap;

use self::{
    check::{Failure, Job, Outcome},
    worker::{Running, Worker},
};
use super::{counting::Phase, session::Session, traced::Traced};
use crate::{
    heap::How,
    profile::{Holder, LeakCheck, Leaked, Moment, Remark},
    session::Watched,
    target::Hold,
};

/// When to check for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum When {
    /// Never.
    #[default]
    Off,
    /// While a scan is cheap.
    Auto,
    /// Whatever it costs.
    Always,
}

/// How to check for leaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeakOptions {
    /// When.
    pub when: When,
    /// Whether to stop the process for one scan, instead of three scans while it runs.
    pub stop: bool,
    /// Whether to check once, at the end of a command that is held there; otherwise while processes run.
    pub at_exit: bool,
    /// Whether pointers may be at any address.
    pub unaligned: bool,
}

/// Scans of a running process, and the time between two of them.
const SCANS: u32 = 3;
const SPACING: Duration = Duration::from_millis(500);
/// The same within a window.
const SPACING_IN_WINDOW: Duration = Duration::from_millis(20);
/// By how much a window is longer for a check, before the first one was made.
const LEAST_IN_WINDOW: Duration = Duration::from_millis(100);
/// When the first check begins, and the least time between two.
const FIRST: Duration = Duration::from_millis(500);
const PAUSE: Duration = Duration::from_secs(1);
/// Where checking was declined or failed, it is tried again after this time.
const LATER: Duration = Duration::from_secs(30);
/// With `Auto`, CPU time of the agent for one scan at most.
const AFFORDABLE: Duration = Duration::from_secs(2);
/// The most time for one scan, with `Always` too.
const LONGEST: Duration = Duration::from_secs(300);
/// The share of one processor that checks take at most: as much as tracing does by default.
const SHARE: f64 = 0.1;
/// Bytes read per second at most, so that the target's memory bandwidth is not taken.
const RATE: u64 = 1 << 30;
/// Before anything was measured: CPU time of a scan for each byte of memory, in ns.
const NS_PER_BYTE: f64 = 0.7;
/// Stacks whose holders are named: those that hold most since tracing began.
const HOLDERS: usize = 32;
/// So many windows in a row that were too short are reported.
const SHORT_WINDOWS: u32 = 3;

/// What was found in one process.
struct Found {
    check: LeakCheck,
    /// By slot of the stack.
    stacks: FxHashMap<u32, Leaked>,
    /// Who holds blocks, by slot of the stack.
    holders: FxHashMap<u32, Vec<Holder>>,
}

/// Leak checks of a session.
#[derive(Default)]
pub(super) struct Leaks {
    options: LeakOptions,
    worker: Option<Worker>,
    running: Option<Running>,
    /// When the next check may begin.
    next: Duration,
    /// Results, and why there are none, by index of the target.
    found: FxHashMap<u32, Found>,
    failed: FxHashMap<u32, Remark>,
    /// That blocks thought lost were freed later, by index of the target.
    freed_later: FxHashMap<u32, Remark>,
    /// The target checked last.
    last: Option<u32>,
    /// Windows in a row that ended too early.
    short: u32,
    /// How long the last check within a window took.
    in_window: Duration,
    /// A command that will be held at its end; and once it is waited for.
    to_hold: Option<Hold>,
    hold: Option<Watched<Hold>>,
}

impl Leaks {
    pub(super) fn new(options: LeakOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Whether a check is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends a check that is under way.
    pub(super) fn cancel(&self) {
        if let Some(running) = &self.running {
            running.stop();
        }
    }

    /// Waits for the result of a check, or until the command is held at its end.
    pub(super) async fn news(&mut self) -> Option<News> {
        match (&mut self.worker, &self.running, &mut self.hold) {
            (Some(worker), Some(_), _) => {
                worker.answered().await.map(|answer| News::Answer(Box::new(Answer(answer))))
            }
            (_, None, Some(hold)) => {
                // If it cannot be waited for, it is released.
                let _ = hold.readable().await;
                Some(News::Held)
            }
            _ => std::future::pending().await,
        }
    }

    /// Whether a command is held at its end, or will be.
    pub(super) fn has_hold(&self) -> bool {
        self.hold.is_some()
    }

    /// When to look whether a check may begin; `None`: it is not for the clock to say.
    pub(super) fn due(&self) -> Option<Duration> {
        let LeakOptions { when, at_exit, .. } = self.options;
        (when != When::Off && !at_exit && self.running.is_none()).then_some(self.next)
    }

    /// How long a window should be kept open for a check, if one is due.
    pub(super) fn wants_window(&self, now: Duration) -> Duration {
        let due = self.due().is_some_and(|due| now >= due);
        if due { self.in_window.max(LEAST_IN_WINDOW) } else { Duration::ZERO }
    }

    /// What was found, by slot of the stack.
    pub(super) fn stacks(&self) -> impl Iterator<Item = (u32, Leaked)> {
        self.found.values().flat_map(|found| found.stacks.iter().map(|(slot, leaked)| (*slot, *leaked)))
    }

    /// Who holds the blocks of the stack with that slot.
    pub(super) fn holders(&self, slot: u32) -> &[Holder] {
        self.found.values().find_map(|found| found.holders.get(&slot)).map_or(&[], Vec::as_slice)
    }

    /// The checks of all processes together.
    pub(super) fn check(&self) -> Option<LeakCheck> {
        self.found.values().map(|found| found.check).reduce(LeakCheck::plus)
    }

    /// What the reader of a report should know.
    pub(super) fn remarks(&self) -> impl Iterator<Item = Remark> {
        self.failed.values().chain(self.freed_later.values()).cloned()
    }

    /// A process runs another program: what is known of it is of the past.
    pub(super) fn forget(&mut self, index: u32) {
        self.found.remove(&index);
        self.failed.remove(&index);
        self.freed_later.remove(&index);
        if self.running.as_ref().is_some_and(|running| running.index == index) {
            self.cancel();
        }
    }
}

/// What happened.
pub(super) enum News {
    /// A check has a result.
    Answer(Box<Answer>),
    /// A command is held at its end, or has ended.
    Held,
}

/// The result of a check.
pub(super) struct Answer(Result<Outcome, Failure>);

impl Session {
    /// Tracing has begun.
    pub(super) fn begin_leaks(&mut self) {
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

    /// Waits for the command's end from now on.
    ///
    /// # Errors
    /// Its descriptor cannot be watched.
    pub(super) fn watch_hold(&mut self) -> anyhow::Result<()> {
        self.leaks.hold = self.leaks.to_hold.take().map(Watched::new).transpose()?;
        Ok(())
    }

    /// Begins a check if one is due and can be made now.
    pub(super) fn look_for_leaks(&mut self) {
        let now = self.tracer.elapsed();
        if self.leaks.due().is_none_or(|due| now < due) {
            return;
        }
        let (watched_since, spacing) = match self.control.phase {
            // With something detached, not every free is seen.
            Phase::Attached => (self.control.since.unwrap_or(now), SPACING),
            Phase::Watching(begin, _) => (begin.at, SPACING_IN_WINDOW),
            Phase::Waiting | Phase::Counting(..) => return,
        };
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
        let LeakOptions { when, stop, unaligned, .. } = self.leaks.options;
        let stacks = self.growing(id);
        let job = Job {
            pid,
            target: id,
            watched_since,
            scans: if stop { 1 } else { SCANS },
            spacing,
            how: How { unaligned, holders: false },
            // A process that is stopped is to go on as soon as possible.
            rate: if stop { 0 } else { RATE },
            limit: if when == When::Auto { AFFORDABLE * 4 } else { LONGEST },
            moment: if stop { Moment::Stopped } else { Moment::Running },
            held: None,
            all_known: false,
            stacks,
            doubt: true,
        };
        self.start_check(index, job);
    }

    /// Hands a job to the thread.
    fn start_check(&mut self, index: u32, job: Job) {
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

    /// The command is held at its end, or has ended.
    pub(super) fn check_at_exit(&mut self) {
        let threads = self.leaks.hold.as_mut().and_then(|hold| hold.inner().threads());
        let target = self.targets.first().map(|target| (target.index, target.id(), target.pid().get()));
        let (Some(held), Some((index, id, pid))) = (threads, target) else {
            self.leaks.hold = None;
            return;
        };
        if let Some(hold) = &mut self.leaks.hold {
            hold.exhausted();
        }
        self.leaks.cancel();
        if let Some(remark) = self.leaks.declines(index, pid) {
            self.leaks.failed.insert(index, remark);
            self.leaks.hold = None;
            return;
        }
        let job = Job {
            pid,
            target: id,
            watched_since: self.control.watched_since_start(),
            scans: 1,
            spacing: Duration::ZERO,
            how: How { unaligned: self.leaks.options.unaligned, holders: false },
            rate: 0,
            limit: LONGEST,
            moment: Moment::AtExit,
            held: Some(held),
            all_known: self.knows_all_blocks(),
            stacks: Vec::new(),
            doubt: false,
        };
        self.start_check(index, job);
        if self.leaks.running.is_none() {
            self.leaks.hold = None;
        }
    }

    /// Takes the result of a check.
    pub(super) fn take_answer(&mut self, Answer(result): Answer) {
        let now = self.tracer.elapsed();
        let Some(running) = self.leaks.running.take() else { return };
        let in_window = self.control.in_windows();
        let index = running.index;
        let pid =
            self.targets.iter().find(|target| target.index == index).map_or(0, |target| target.pid().get());
        match result {
            Ok(outcome) => {
                let check = outcome.check;
                tracing::debug!(
                    "leak check of process {pid}: {check:?}, {} freed later",
                    outcome.count.freed_later
                );
                self.leaks.short = 0;
                if in_window {
                    self.leaks.in_window = check.took + SPACING_IN_WINDOW * SCANS;
                }
                self.leaks.next = now + PAUSE.max(check.cpu.div_f64(SHARE));
                self.leaks.failed.remove(&index);
                if outcome.count.freed_later > 0 {
                    let remark = Remark::LostFreedLater { pid, blocks: outcome.count.freed_later };
                    self.leaks.freed_later.insert(index, remark);
                }
                let Outcome { count, holders, .. } = outcome;
                self.leaks.found.insert(index, Found { check, stacks: count.stacks, holders });
                self.leaks.hold = None;
            }
            Err(failure) => {
                self.leaks.hold = None;
                tracing::debug!("leak check of process {pid}: {failure}");
                self.leaks.next = now + PAUSE;
                let remark = match failure {
                    Failure::Cut if in_window => {
                        self.leaks.short += 1;
                        (self.leaks.short >= SHORT_WINDOWS).then_some(Remark::NoLeakCheckInWindows { pid })
                    }
                    Failure::Cut | Failure::Gone => None,
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

impl Leaks {
    /// Why a check of a process would cost too much, if it would.
    fn declines(&self, index: u32, pid: u32) -> Option<Remark> {
        if self.options.when != When::Auto {
            return None;
        }
        let bytes = resident(pid)?;
        let cpu = match self.found.get(&index) {
            Some(Found { check, .. }) if check.read > 0 => {
                check.cpu.mul_f64(bytes as f64 / check.read as f64)
            }
            _ => Duration::from_nanos((bytes as f64 * NS_PER_BYTE) as u64),
        };
        (cpu > AFFORDABLE).then_some(Remark::LeakCheckDeclined { pid, bytes, cpu: cpu * SCANS })
    }
}

/// Private memory of a process that is resident, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).ok()?;
    let mut fields = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared) * 4096)
}
