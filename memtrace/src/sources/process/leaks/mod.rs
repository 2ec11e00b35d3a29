//! Leak checks of the traced processes: when, and what became of them. The scans are on a thread of their own ([`worker`]).

mod at_exit;
mod before;
pub(super) mod check;
mod decided;
mod in_use;
mod job;
mod memory;
pub(super) mod owners;
pub(super) mod pass;
pub(super) mod recount;
pub(super) mod registers;
pub(super) mod schedule;
pub(super) mod suspects;
mod urgent;
mod worker;

use std::time::Duration;

use rustc_hash::FxHashMap;

use self::{
    check::Failure,
    job::Outcome,
    schedule::{AFFORDABLE, LEAST_IN_WINDOW, NS_PER_BYTE, SCANS},
    worker::{Running, Worker},
};
use crate::{
    profile::{Holder, LeakCheck, Leaked, Moment, Remark},
    session::Watched,
    target::{Hold, usage},
};

/// A scan of so many bytes tells what a byte takes.
const LARGE: f64 = (16 << 20) as f64;

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
    /// Whether checks become rare with time: whoever looks at a screen all the time can ask for one.
    pub seldom: bool,
}

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
    /// Resident bytes that may be read of a process at once; `None`: nothing is to be read.
    pub(super) fn affordable(&self) -> Option<u64> {
        match self.options.when {
            When::Off => None,
            When::Auto => Some((AFFORDABLE.as_nanos() as f64 / NS_PER_BYTE) as u64),
            When::Always => Some(u64::MAX),
        }
    }

    pub(super) fn new(options: LeakOptions) -> Self {
        Self { options, ..Self::default() }
    }

    /// Whether a check is under way.
    pub(super) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Whether a check is under way that needs to see all frees.
    pub(super) fn needs_window(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.is_decided())
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

    /// The next check is to begin as soon as possible.
    pub(super) fn ask(&mut self, now: Duration) {
        self.next = self.next.min(now);
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

    /// The index of the command that was checked at its end.
    pub(super) fn checked_at_exit(&self) -> Option<u32> {
        let mut found = self.found.iter();
        found.find(|(_, found)| found.check.moment == Moment::AtExit).map(|(index, _)| *index)
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

impl Leaks {
    /// Why a check of a process would cost too much, if it would.
    fn declines(&self, index: u32, pid: u32) -> Option<Remark> {
        if self.options.when != When::Auto {
            return None;
        }
        let bytes = usage::private(pid)?;
        let cpu = expected(bytes, self.found.get(&index).map(|found| &found.check));
        (cpu > AFFORDABLE).then_some(Remark::LeakCheckDeclined { pid, bytes, cpu: cpu * SCANS })
    }
}

/// CPU time of a scan of so many bytes. `last`: the last check.
fn expected(bytes: u64, last: Option<&LeakCheck>) -> Duration {
    let by_default = |bytes: u64| bytes as f64 * NS_PER_BYTE;
    let ns = last.filter(|last| last.read > 0).map_or(by_default(bytes), |last| {
        let scans = f64::from(last.scans.max(1));
        let (ns, read) = (last.cpu.as_nanos() as f64 / scans, last.read as f64 / scans);
        let more = bytes as f64 - read;
        // What a small scan takes is not for its bytes.
        let by_bytes = if read >= LARGE { NS_PER_BYTE.max(ns / read) } else { NS_PER_BYTE };
        if more <= 0.0 { ns * (bytes as f64 / read) } else { ns + more * by_bytes }
    });
    Duration::from_nanos(ns as u64)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{LeakCheck, expected};

    #[test]
    fn a_small_check_says_little_of_a_large_one() {
        let check = |read: u64, cpu: u64| LeakCheck {
            scans: 3,
            read,
            cpu: Duration::from_millis(cpu),
            ..LeakCheck::default()
        };
        let ms = |bytes: u64, last: &LeakCheck| expected(bytes, Some(last)).as_millis();
        assert_eq!(expected(1 << 30, None).as_millis(), 751);
        // 100 KiB a scan, most of whose time goes into other things.
        assert!((70..100).contains(&ms(100 << 20, &check(300 << 10, 15))));
        // Pointers of this process take longer than others.
        assert!((1990..2010).contains(&ms(1 << 30, &check(768 << 20, 1500))));
        assert!((240..260).contains(&ms(128 << 20, &check(768 << 20, 1500))));
    }
}
