//! How a session counts: which allocations, at what cost, and since when.

use std::time::{Duration, Instant};

use memtrace_common::{
    Shift,
    sampling::{EXACT, NOTHING},
};

use crate::{
    aggregate::SeenClock,
    budget::{self, Budget, Choice, Reading, Window},
    model::Prices,
    profile::{Attachment, Remark},
};

/// How to count allocations.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counting {
    /// Which ones, or [`Choice::Auto`].
    pub choice: Choice,
    /// The share of the targets' CPU time that tracing may take, 0 to 1; `None`: no limit.
    pub limit: Option<f64>,
}

impl Default for Counting {
    /// Every allocation, at any cost.
    fn default() -> Self {
        Self { choice: Choice::Fixed(EXACT), limit: None }
    }
}

impl Counting {
    /// Which allocations are counted until the cost is known.
    pub(super) fn first(self) -> Shift {
        match self.choice {
            Choice::Fixed(shift) => shift,
            Choice::Auto => EXACT,
        }
    }

    /// Whether calls will be left out.
    pub(super) fn skips(self) -> bool {
        self.limit.is_some() || self.choice != Choice::Fixed(EXACT)
    }
}

/// What a session with a budget is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Phase {
    /// Probes are in place.
    Attached,
    /// No probe is in place until the budget allows a window.
    Waiting,
    /// In a window that began with this reading: allocations and frees are counted.
    Counting(Reading, Window),
    /// Only frees are counted.
    Watching(Reading, Window),
}

/// The cost of a session.
#[derive(Debug)]
pub(super) struct Control {
    pub(super) prices: Option<Prices>,
    pub(super) budget: Option<Budget>,
    pub(super) counting: Counting,
    pub(super) shift: Shift,
    pub(super) phase: Phase,
    /// When the phase ends.
    pub(super) until: Instant,
    pub(super) gaps: u64,
    /// Gaps at the previous report; `None` before the first, or if a window was open then.
    pub(super) reported_gaps: Option<u64>,
    /// The most recent sampling, if there was any.
    pub(super) sampled: Option<Shift>,
    /// Time in which allocations were seen, up to the start of the phase.
    pub(super) attached: Duration,
    pub(super) since: Option<Duration>,
    /// Time in which allocations were seen, as a function of time.
    clock: SeenClock,
    /// When the part of a window in which both allocations and frees are counted began.
    pub(super) counting_since: Option<Reading>,
    /// Blocks allocated and blocks freed in such parts.
    pub(super) balance: (u64, u64),
    /// Since when only functions that map memory have been probed.
    pub(super) mapping_since: Option<Reading>,
    /// Whether these are called so often that they are no longer probed.
    pub(super) mappings_dropped: bool,
    /// How tracing has continued since it last changed.
    pub(super) remark: Option<Remark>,
}

impl Control {
    pub(super) fn new(counting: Counting) -> Self {
        let shift = counting.first();
        Self {
            prices: None,
            budget: None,
            counting,
            shift,
            phase: Phase::Attached,
            until: Instant::now(),
            gaps: 0,
            reported_gaps: None,
            sampled: Some(shift).filter(|&shift| is_sampling(shift)),
            attached: Duration::ZERO,
            since: None,
            clock: SeenClock::default(),
            counting_since: None,
            balance: (0, 0),
            mapping_since: None,
            mappings_dropped: false,
            remark: None,
        }
    }

    /// Tracing begins at `now`.
    pub(super) fn begin(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::Waiting) {
            self.since = Some(now);
        }
        self.clock = SeenClock::default();
        self.clock.note(now, Duration::ZERO);
    }

    /// Mean bytes between two samples, of those taken last.
    pub(super) fn sample_bytes(&self) -> Option<u64> {
        self.sampled.map(|shift| 1 << shift)
    }

    /// Whether samples are taken now.
    pub(super) fn is_sampling(&self) -> bool {
        is_sampling(self.shift)
    }

    /// Whether figures are estimates: something was sampled since tracing began.
    pub(super) fn sampled(&self) -> bool {
        self.sampled.is_some()
    }

    /// When the open window began, and for how long its blocks are watched at least, as those of earlier ones were:
    /// which of the younger blocks stay is not known yet.
    pub(super) fn open_window(&self) -> Option<(Duration, Duration)> {
        match self.phase {
            Phase::Attached | Phase::Waiting => None,
            Phase::Counting(begin, window) | Phase::Watching(begin, window) => Some((begin.at, window.watch)),
        }
    }

    /// Whether calls are left out by sampling or by size, so that calls nested in them must be recognized by their stacks.
    pub(super) fn skips(&self) -> bool {
        self.counting.skips()
    }

    /// Ends the part of a window in which both allocations and frees were counted, if it was one.
    pub(super) fn end_counting(&mut self, now: &Reading) {
        // With sampling, calls that delegate to others cannot be recognized.
        if let Some(since) = self.counting_since.take().filter(|_| !self.is_sampling()) {
            let (allocated, freed) = budget::came_and_went(&since, now);
            self.balance = (self.balance.0 + allocated, self.balance.1 + freed);
        }
    }

    /// Whether tracing happens in windows.
    pub(super) fn in_windows(&self) -> bool {
        !matches!(self.phase, Phase::Attached)
    }

    /// Since when every free has been seen, on the kernel side's clock; `None`: they are not all seen now. While only frees
    /// are probed, that of a block that `realloc` moves is not.
    pub(super) fn watched_since(&self) -> Option<Duration> {
        match self.phase {
            // Both begin before the last probe is in place.
            Phase::Attached | Phase::Counting(..) => self.since,
            Phase::Watching(..) | Phase::Waiting => None,
        }
    }

    /// Whether no probe is in place now.
    pub(super) fn is_detached(&self) -> bool {
        matches!(self.phase, Phase::Waiting)
    }

    /// When allocations were seen between `started` and `now`.
    pub(super) fn attachment(&self, started: Duration, now: Duration) -> Attachment {
        let running = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let whole = now.saturating_sub(started).as_secs_f64();
        let share = if self.gaps == 0 || whole <= 0.0 {
            1.0
        } else {
            ((self.attached + running).as_secs_f64() / whole).min(1.0)
        };
        let windows = (self.balance != (0, 0)).then_some(self.balance);
        Attachment { share, gaps: self.gaps, windows, open: self.open_window().is_some() }
    }

    /// Time in which allocations were seen, as a function of time, up to now; the usual time while there was no gap.
    pub(super) fn clock(&self, now: Duration) -> SeenClock {
        if self.gaps == 0 {
            return SeenClock::default();
        }
        let mut clock = self.clock.clone();
        clock.note(now, self.seen(now));
        clock
    }

    /// Time in which allocations were seen, up to now.
    pub(super) fn seen(&self, now: Duration) -> Duration {
        self.attached + self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since))
    }

    /// Probes that should have been in place did not fire for a while.
    pub(super) fn unheard(&mut self, from: Duration, to: Duration) {
        if let Some(since) = self.since {
            self.attached += from.saturating_sub(since);
            self.clock.note(from, self.attached);
            self.clock.note(to, self.attached);
            self.since = Some(to.max(since));
        }
        self.gaps += 1;
    }

    pub(super) fn set_phase(&mut self, phase: Phase, now: Duration) {
        let sees = |phase| matches!(phase, Phase::Attached | Phase::Counting(..));
        if sees(self.phase) && !sees(phase) {
            self.attached += self.since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
            self.gaps += 1;
            self.clock.note(now, self.attached);
        } else if !sees(self.phase) && sees(phase) {
            self.since = Some(now);
            self.clock.note(now, self.attached);
        }
        self.phase = phase;
    }
}

pub(super) fn is_sampling(shift: Shift) -> bool {
    shift != EXACT && shift != NOTHING
}
