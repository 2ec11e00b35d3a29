//! What tracing costs, and what is done about it: joins the budget to the probes.

use std::time::{Duration, Instant};

use memtrace_common::sampling::{EXACT, NOTHING};

use super::{
    counting::{Counting, Phase, is_sampling},
    session::Session,
};
use crate::{
    budget::{self, Budget, Due, Mode, Reading, Verdict, Window},
    model::{
        Overhead,
        units::{format_bytes, format_number, format_percent},
    },
};

/// How long calls are counted before it is said what tracing will cost, and how many are enough to stop earlier.
const MEASURE: Duration = Duration::from_millis(60);
const MEASURE_CALLS: u64 = 20_000;
/// Where there is hardly anything to count, this is enough: what comes later is seen then.
const MEASURE_LEAST: Duration = Duration::from_millis(30);
const MEASURE_STEP: Duration = Duration::from_millis(5);
/// Time between two looks at what is used.
const PERIOD: Duration = Duration::from_millis(200);
/// The same in a window.
const GLANCE: Duration = Duration::from_millis(10);
/// The same between two windows.
const WAIT: Duration = Duration::from_millis(50);

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Look again after this time.
    Look(Duration),
    /// Report at once, and then look again.
    Report,
    /// Report and end: the budget cannot be kept.
    End,
}

impl Session {
    /// Measures what a probe costs here, unless that is known. Where it cannot be, no overhead is reported, and no budget
    /// kept.
    fn calibrate(&mut self) {
        if self.control.prices.is_some() {
            return;
        }
        match self.tracer.calibrate() {
            Ok(prices) => self.control.prices = Some(prices),
            Err(error) => {
                tracing::debug!("{error:#}");
                self.control.counting.limit = None;
                self.notes.push(format!(
                    "what probes cost here could not be measured, so no budget is kept: {error}"
                ));
            }
        }
    }

    /// With a budget: sees to it that calls are only counted at first. For targets that run already.
    pub fn prepare(&mut self) {
        if self.control.counting.limit.is_some() {
            self.calibrate();
        }
        if self.control.counting.limit.is_some() {
            self.tracer.set_sampling(NOTHING);
        }
    }

    /// With a budget: counts the targets' calls for a moment, and chooses how to trace them. Returns what that will cost,
    /// in words.
    pub fn choose(&mut self) -> Option<String> {
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
        let words = plan(&budget);
        self.control.budget = Some(budget);
        self.enter(mode);
        Some(words)
    }

    /// The cost is known from now on, and the budget kept: where nothing was chosen, as long as it lasts.
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

    /// What was used so far.
    pub(super) fn reading(&mut self) -> Reading {
        let cpu = self.targets.iter_mut().map(super::resolve::Traced::cpu_time).sum();
        Reading { at: self.tracer.elapsed(), cpu, work: self.tracer.work() }
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

    /// Whether something is to be looked at between reports.
    pub(super) fn is_controlled(&self) -> bool {
        self.control.budget.is_some()
    }

    /// Looks at what is used, and does what the budget says.
    pub(super) fn control(&mut self) -> Next {
        let now = self.reading();
        let phase = self.control.phase;
        let Some(budget) = &mut self.control.budget else { return Next::Look(PERIOD) };
        match phase {
            Phase::Attached => {
                let verdict = budget.observe(now);
                self.obey(verdict)
            }
            Phase::Waiting => {
                match budget.window(now) {
                    Due::Now(window) => self.open(now, window),
                    Due::Later => {}
                    Due::Never => return self.give_up(),
                }
                self.soon()
            }
            Phase::Counting(begin, _) | Phase::Watching(begin, _) if budget.is_overdrawn(&begin, &now) => {
                self.close(begin, now)
            }
            Phase::Counting(..) | Phase::Watching(..) if Instant::now() < self.control.until => self.soon(),
            Phase::Counting(begin, window) => {
                self.control.end_counting(&now);
                self.tracer.pause(false);
                self.control.set_phase(Phase::Watching(begin, window), now.at);
                self.control.until = Instant::now() + window.watch;
                self.soon()
            }
            Phase::Watching(begin, _) => self.close(begin, now),
        }
    }

    /// A window ends.
    fn close(&mut self, begin: Reading, now: Reading) -> Next {
        self.control.end_counting(&now);
        self.tracer.pause(true);
        self.control.set_phase(Phase::Waiting, now.at);
        let Some(budget) = &mut self.control.budget else { return Next::Look(PERIOD) };
        let verdict = budget.window_ended(begin, now);
        self.obey(verdict)
    }

    /// When to look again.
    fn soon(&self) -> Next {
        let left = self.control.until.saturating_duration_since(Instant::now());
        match self.control.phase {
            Phase::Attached => Next::Look(PERIOD),
            Phase::Waiting => Next::Look(WAIT),
            Phase::Counting(..) | Phase::Watching(..) => Next::Look(left.min(GLANCE)),
        }
    }

    fn obey(&mut self, verdict: Verdict) -> Next {
        let at = self.tracer.elapsed().saturating_sub(self.started).as_secs_f64();
        let Some(budget) = &self.control.budget else { return self.soon() };
        let limit = part(budget, budget.limit());
        match verdict {
            Verdict::Keep => self.soon(),
            Verdict::Switch(mode) => {
                let tuned = matches!(mode, Mode::Steady(shift) if is_sampling(shift) && is_sampling(self.control.shift));
                self.enter(mode);
                if !tuned {
                    self.remark(format!("since {at:.1} s {}, to stay within {limit}", ways(mode)));
                }
                self.soon()
            }
            Verdict::Cut(share, mode) => {
                let took = part(budget, share.min(1.0));
                self.enter(mode);
                self.remark(format!(
                    "tracing took {took}, far more than is allowed ({limit}): detached at {at:.1} s; from then on {}",
                    ways(mode)
                ));
                Next::Report
            }
        }
    }

    fn give_up(&mut self) -> Next {
        self.tracer.pause(true);
        let limit = self.control.counting.limit.map(format_percent).unwrap_or_default();
        self.remark(format!(
            "detached: {limit} of the CPU time do not pay for tracing this process, not even for moments; raise \
             --max-overhead"
        ));
        Next::End
    }

    /// Notes how tracing goes on; what was noted before no longer holds.
    fn remark(&mut self, text: String) {
        tracing::debug!("{text}");
        self.control.remark = Some(text);
    }

    fn enter(&mut self, mode: Mode) {
        let now = self.tracer.elapsed();
        self.control.shift = mode.shift();
        if is_sampling(mode.shift()) {
            self.control.sampled = Some(mode.shift());
        }
        self.tracer.set_sampling(mode.shift());
        match mode {
            Mode::Steady(_) => {
                if self.control.is_detached() {
                    self.attach_again(true);
                }
                self.control.set_phase(Phase::Attached, now);
            }
            Mode::Windows(_) => {
                self.tracer.pause(true);
                self.ranges.clear();
                self.control.set_phase(Phase::Waiting, now);
            }
        }
    }

    fn open(&mut self, begin: Reading, window: Window) {
        self.attach_again(false);
        self.look_at_window();
        let now = self.reading();
        self.control.counting_since = Some(now);
        self.control.set_phase(Phase::Counting(begin, window), now.at);
        self.control.until = Instant::now() + window.count;
    }

    fn attach_again(&mut self, mappings: bool) {
        for target in &mut self.targets {
            if let Err(error) = target.attach_again(&mut self.tracer, mappings)
                && !target.process.has_exited()
            {
                tracing::warn!("{error:#}");
            }
        }
    }
}

/// How tracing goes on.
fn ways(mode: Mode) -> String {
    let counted = match mode.shift() {
        EXACT => "every allocation is counted".to_owned(),
        shift => format!("one allocation in {} is counted", format_bytes(1 << shift)),
    };
    match mode {
        Mode::Steady(_) => counted,
        Mode::Windows(_) => format!("{counted} in short windows only"),
    }
}

/// A share of what counts as the targets' CPU time, in words.
fn part(budget: &Budget, share: f64) -> String {
    if budget.is_quiet() {
        format!("{} of a processor", format_percent(share * budget::LEAST_BUSY))
    } else {
        format!("{} of the CPU time", format_percent(share))
    }
}

/// What tracing will cost, before it begins.
fn plan(budget: &Budget) -> String {
    let calls = format_number(budget.calls_per_second().round() as u64);
    let of = |share| part(budget, share);
    let (exact, cheapest) = (of(budget.share_exact()), of(budget.share_cheapest()));
    let allowed = |share| {
        let limit = of(budget.limit());
        if share > budget.limit() {
            format!(", allowed: {limit}")
        } else {
            format!(", too near the {limit} allowed")
        }
    };
    match budget.mode() {
        Mode::Steady(EXACT) if budget.calls_per_second() == 0.0 => {
            let limit = format_percent(budget.limit());
            format!(
                "no calls yet: every allocation is counted, as long as that takes at most {limit} of the CPU time"
            )
        }
        Mode::Steady(EXACT) => {
            format!("{calls} calls a second: counting every allocation takes {exact} by estimate")
        }
        mode @ Mode::Steady(_) if !budget.chooses() => {
            format!("{calls} calls a second: {}, which takes {cheapest} by estimate", ways(mode))
        }
        mode @ Mode::Steady(_) => {
            format!(
                "{calls} calls a second: counting every allocation would take {exact}{}; so {}",
                allowed(budget.share_exact()),
                ways(mode)
            )
        }
        mode @ Mode::Windows(_) => {
            format!(
                "{calls} calls a second: probes that stay would take {cheapest}{}; so {}",
                allowed(budget.share_cheapest()),
                ways(mode)
            )
        }
    }
}
