//! What tracing costs, and how memtrace reacts: connects the budget to the probes.

use std::time::{Duration, Instant};

use memtrace_common::sampling::{EXACT, NOTHING};

use super::{
    counting::{Counting, Phase, is_sampling},
    session::Session,
};
use crate::{
    budget::{self, Budget, Due, Mode, Reading, Verdict, Window},
    profile::{Overhead, Pace, Plan, Remark, Share},
    session::{Ending, Step},
};

/// How long calls are counted to estimate the cost of tracing, and how many suffice to stop earlier.
const MEASURE: Duration = Duration::from_millis(60);
const MEASURE_CALLS: u64 = 20_000;
/// Enough for a target with hardly any calls: later ones are noticed then.
const MEASURE_LEAST: Duration = Duration::from_millis(30);
const MEASURE_STEP: Duration = Duration::from_millis(5);
/// Time between two checks of the cost.
const PERIOD: Duration = Duration::from_millis(200);
/// The same in a window.
const GLANCE: Duration = Duration::from_millis(10);
/// The same between two windows.
const WAIT: Duration = Duration::from_millis(50);
/// Over what time calls that map memory are judged, and the part of the limit that they may take.
const MAPPING_WATCH: Duration = Duration::from_secs(2);
const MAPPING_PART: f64 = 0.5;

impl Session {
    /// Measures what a probe costs on this machine, unless that is known. If that fails, no overhead is reported, and
    /// no budget is kept.
    fn calibrate(&mut self) {
        if self.control.prices.is_some() {
            return;
        }
        match self.tracer.calibrate() {
            Ok(prices) => self.control.prices = Some(prices),
            Err(error) => {
                tracing::debug!("{error:#}");
                self.control.counting.limit = None;
                self.remarks.push(Remark::PricesUnknown { error: error.to_string() });
            }
        }
    }

    /// With a budget: makes the probes only count calls at first. For targets that are already running.
    pub fn prepare(&mut self) {
        if self.control.counting.limit.is_some() {
            self.calibrate();
        }
        if self.control.counting.limit.is_some() {
            self.tracer.set_sampling(NOTHING);
        }
    }

    /// With a budget: counts the targets' calls for a moment, and chooses how to trace them. Returns what that will cost.
    pub fn choose(&mut self) -> Option<Plan> {
        let mut budget = self.budget()?;
        let begin = Instant::now();
        let first = self.reading();
        let mut now = first;
        while begin.elapsed() < MEASURE && now.work.calls() - first.work.calls() < MEASURE_CALLS {
            std::thread::sleep(MEASURE_STEP);
            now = self.reading();
            if begin.elapsed() >= MEASURE_LEAST && budget.is_ample(now) {
                break;
            }
        }
        let mode = budget.begin(now);
        let plan = plan(&budget);
        self.control.budget = Some(budget);
        self.enter(mode);
        Some(plan)
    }

    /// From now on the cost is measured and the budget enforced, even if no mode was chosen.
    pub(super) fn begin_control(&mut self) {
        self.calibrate();
        if self.control.budget.is_none() {
            self.control.budget = self.budget();
        }
    }

    fn budget(&mut self) -> Option<Budget> {
        let Counting { choice, limit } = self.control.counting;
        let (limit, prices) = (limit?, self.control.prices?);
        Some(Budget::new(limit, prices, choice, self.reading()))
    }

    /// What has been used so far.
    pub(super) fn reading(&mut self) -> Reading {
        let cpu: Duration = self.targets.iter_mut().map(super::traced::Traced::cpu_time).sum();
        Reading { at: self.tracer.elapsed(), cpu: cpu + self.past_cpu, work: self.tracer.work() }
    }

    /// What tracing has cost since it began.
    pub(super) fn overhead(&mut self) -> Option<Overhead> {
        let Reading { at, cpu, work } = self.reading();
        let limit = self.control.counting.limit;
        Some(Overhead {
            spent: budget::spent(&work, &self.control.prices?),
            cpu,
            elapsed: at.saturating_sub(self.started),
            calls: work.calls(),
            limit,
            least: limit.map(|limit| limit * budget::LEAST_BUSY),
        })
    }

    /// Whether the budget needs checks between reports.
    pub(super) fn is_controlled(&self) -> bool {
        self.control.budget.is_some()
    }

    /// Checks the cost and does what the budget requires. Also returns when to check again.
    pub(super) fn control(&mut self) -> (Step, Duration) {
        let now = self.reading();
        let phase = self.control.phase;
        let Some(budget) = &mut self.control.budget else { return (Step::Wait, PERIOD) };
        match phase {
            Phase::Attached => {
                let verdict = budget.observe(now);
                self.obey(verdict)
            }
            Phase::Waiting => {
                self.bound_mappings(now);
                let Some(budget) = &mut self.control.budget else { return (Step::Wait, PERIOD) };
                match budget.window(now, self.leaks.wants_window(now.at)) {
                    Due::Now(window) => self.open(now, window),
                    Due::Later => {}
                    Due::Never => return self.give_up(),
                }
                self.soon()
            }
            Phase::Counting(begin, _) | Phase::Watching(begin, _) if budget.is_overdrawn(&begin, &now) => {
                tracing::debug!(
                    "a window cost more than was paid for it: closed after {:?}",
                    now.at.saturating_sub(begin.at)
                );
                self.close(begin, now)
            }
            Phase::Counting(..) | Phase::Watching(..)
                if Instant::now() < self.control.until || self.leaks.needs_window() =>
            {
                self.soon()
            }
            Phase::Counting(begin, window) => {
                // From here on it is not seen that `realloc` frees a block.
                self.look_for_leaks();
                if self.leaks.needs_window() {
                    return self.soon();
                }
                self.control.end_counting(&now);
                self.tracer.pause(false);
                self.control.set_phase(Phase::Watching(begin, window), now.at);
                self.control.until = Instant::now() + window.watch;
                self.soon()
            }
            Phase::Watching(begin, _) => self.close(begin, now),
        }
    }

    /// Between two windows only functions that map memory are probed. If even that takes much of the budget, it ends: nothing
    /// would be left for windows.
    fn bound_mappings(&mut self, now: Reading) {
        let since = *self.control.mapping_since.get_or_insert(now);
        let time = now.at.saturating_sub(since.at);
        if time < MAPPING_WATCH || self.control.mappings_dropped {
            return;
        }
        self.control.mapping_since = Some(now);
        let (Some(prices), Some(limit)) = (self.control.prices, self.control.counting.limit) else { return };
        let share = budget::share_between(&since, &now, &prices);
        if share > limit * MAPPING_PART {
            tracing::debug!("calls that map memory alone cost {share}: they are no longer traced");
            self.tracer.pause_mappings();
            self.ranges.clear();
            self.control.mappings_dropped = true;
            self.remarks.push(Remark::MappingsTooFrequent { at: now.at.saturating_sub(self.started) });
        }
    }

    /// A window ends.
    fn close(&mut self, begin: Reading, now: Reading) -> (Step, Duration) {
        // From here on, frees are missed.
        if self.leaks.needs_window() {
            self.leaks.cancel();
        }
        self.control.end_counting(&now);
        self.tracer.pause(true);
        self.control.mapping_since = None;
        self.control.set_phase(Phase::Waiting, now.at);
        // Windows may be open whenever the clock says so.
        self.weigh(false);
        let Some(budget) = &mut self.control.budget else { return (Step::Wait, PERIOD) };
        let verdict = budget.window_ended(begin, now);
        self.obey(verdict)
    }

    /// When to check again.
    fn soon(&self) -> (Step, Duration) {
        // Beyond its end, a window waits for a leak check.
        let left = self.control.until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
        let time = match self.control.phase {
            Phase::Attached => PERIOD,
            Phase::Waiting => WAIT,
            Phase::Counting(..) | Phase::Watching(..) => left.min(GLANCE),
        };
        (Step::Wait, time)
    }

    fn obey(&mut self, verdict: Verdict) -> (Step, Duration) {
        let at = self.tracer.elapsed().saturating_sub(self.started);
        let Some(budget) = &self.control.budget else { return self.soon() };
        let limit = share(budget, budget.limit());
        match verdict {
            Verdict::Keep => self.soon(),
            Verdict::Switch(mode) => {
                let tuned = matches!(mode, Mode::Steady(shift) if is_sampling(shift) && is_sampling(self.control.shift));
                self.enter(mode);
                if !tuned {
                    self.pace(Remark::PaceChanged { since: at, pace: pace(mode), limit });
                }
                self.soon()
            }
            Verdict::Cut(took, mode) => {
                let took = share(budget, took.min(1.0));
                self.enter(mode);
                self.pace(Remark::Detached { at, took, limit, pace: pace(mode) });
                (Step::Report, Duration::ZERO)
            }
        }
    }

    fn give_up(&mut self) -> (Step, Duration) {
        self.tracer.pause(true);
        self.pace(Remark::OverBudget { limit: self.control.counting.limit.unwrap_or_default() });
        (Step::End(Ending::OverBudget), PERIOD)
    }

    /// Records how tracing continues, in place of the previous record.
    fn pace(&mut self, remark: Remark) {
        tracing::debug!("{remark:?}");
        self.control.remark = Some(remark);
    }

    fn enter(&mut self, mode: Mode) {
        self.leaks.cancel();
        let now = self.tracer.elapsed();
        self.control.shift = mode.shift();
        if is_sampling(mode.shift()) {
            self.control.sampled = Some(mode.shift());
        }
        self.tracer.set_sampling(mode.shift());
        match mode {
            Mode::Steady(_) => {
                if self.control.is_detached() {
                    self.attach_again();
                }
                // While probes are attached, what `realloc` frees may be missed.
                let now = self.tracer.elapsed();
                self.control.set_phase(Phase::Attached, now);
            }
            Mode::Windows(_) => {
                self.tracer.pause(true);
                self.control.mapping_since = None;
                self.control.set_phase(Phase::Waiting, now);
            }
        }
    }

    fn open(&mut self, begin: Reading, window: Window) {
        self.attach_again();
        self.look_at_window();
        let now = self.reading();
        self.control.counting_since = Some(now);
        self.control.set_phase(Phase::Counting(begin, window), now.at);
        self.control.until = Instant::now() + window.count;
    }

    fn attach_again(&mut self) {
        let mappings = !self.control.mappings_dropped;
        for target in &mut self.targets {
            if let Err(error) = target.attach_again(&mut self.tracer, mappings)
                && !target.process.has_exited()
            {
                tracing::warn!("{error:#}");
            }
        }
    }
}

fn pace(mode: Mode) -> Pace {
    let sample_bytes = match mode.shift() {
        EXACT => None,
        shift => Some(1 << shift),
    };
    Pace { sample_bytes, windows: matches!(mode, Mode::Windows(_)) }
}

/// A share of what the budget takes as the targets' CPU time.
fn share(budget: &Budget, share: f64) -> Share {
    let of_processor = budget.is_quiet();
    Share { share: if of_processor { share * budget::LEAST_BUSY } else { share }, of_processor }
}

fn plan(budget: &Budget) -> Plan {
    let (calls_per_second, at_least) = budget.calls_per_second();
    Plan {
        calls_per_second,
        at_least,
        exact: share(budget, budget.share_exact()),
        cheapest: share(budget, budget.share_cheapest()),
        limit: share(budget, budget.limit()),
        chooses: budget.chooses(),
        pace: pace(budget.mode()),
    }
}
