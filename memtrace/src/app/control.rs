//! What tracing costs, and what is done about it: joins the budget to the probes.

use std::time::{Duration, Instant};

use memtrace_common::{
    Shift,
    sampling::{EXACT, NOTHING},
};

use super::session::Session;
use crate::{
    budget::{self, Budget, Choice, Due, Mode, Reading, Verdict, Window},
    model::{
        Attachment, Overhead, Prices,
        units::{format_bytes, format_number, format_percent},
    },
};

/// How long calls are counted before it is said what tracing will cost, and how many are enough to stop earlier.
const MEASURE: Duration = Duration::from_millis(60);
const MEASURE_CALLS: u64 = 20_000;
/// Where there is hardly anything to count, this is enough: what comes later is seen then.
const MEASURE_LEAST: Duration = Duration::from_millis(15);
const MEASURE_STEP: Duration = Duration::from_millis(5);
/// Time between two looks at what is used.
const PERIOD: Duration = Duration::from_millis(200);
/// The same between two windows.
const WAIT: Duration = Duration::from_millis(50);

/// How allocations are to be counted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Counting {
    /// Which are, or [`Choice::Auto`].
    pub choice: Choice,
    /// The share of the targets' CPU time that tracing may take, 0 to 1; `None`: any.
    pub limit: Option<f64>,
}

impl Counting {
    /// Every allocation, whatever it costs.
    pub const EXACT: Self = Self { choice: Choice::Fixed(EXACT), limit: None };

    /// Which allocations are counted as soon as probes are in place: with a budget none, until it is known what that
    /// costs.
    pub(super) fn first(self) -> Shift {
        match self {
            Self { limit: Some(_), .. } => NOTHING,
            Self { choice: Choice::Fixed(shift), .. } => shift,
            Self { choice: Choice::Auto, .. } => EXACT,
        }
    }

    /// Whether calls are going to be left out.
    pub(super) fn skips(self) -> bool {
        self.limit.is_some() || self.choice != Choice::Fixed(EXACT)
    }
}

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Look again after this time.
    Look(Duration),
    /// Report at once, and then look again.
    Report,
    /// Report and end: the budget cannot be kept.
    End,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    /// Probes are in place.
    Attached,
    /// None is, until a window can be paid.
    Waiting,
    /// In a window that began with that reading: allocations and frees are counted.
    Counting(Reading, Window),
    /// Frees alone.
    Watching(Reading),
}

/// The cost of a session.
#[derive(Debug)]
pub(super) struct Control {
    prices: Option<Prices>,
    budget: Option<Budget>,
    counting: Counting,
    shift: Shift,
    phase: Phase,
    /// When the phase ends.
    until: Instant,
    gaps: u64,
    sampled: bool,
    /// Time in which allocations were seen, up to when the phase began.
    attached: Duration,
    since: Option<Duration>,
    /// How tracing goes on, since that last changed.
    pub(super) remark: Option<String>,
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
            sampled: is_sampling(shift),
            attached: Duration::ZERO,
            since: None,
            remark: None,
        }
    }

    /// Tracing begins at `now`.
    pub(super) fn begin(&mut self, now: Duration) {
        if !matches!(self.phase, Phase::Waiting) {
            self.since = Some(now);
        }
    }

    /// Mean bytes between two samples.
    pub(super) fn sample_bytes(&self) -> Option<u64> {
        is_sampling(self.shift).then(|| 1 << self.shift)
    }

    /// Whether figures are estimates: something was sampled since tracing began.
    pub(super) fn sampled(&self) -> bool {
        self.sampled
    }

    /// Whether calls are left out unseen, by sampling or by size, so that stacks must tell what was nested in them.
    pub(super) fn skips(&self) -> bool {
        self.counting.skips()
    }

    /// Whether no probe is in place now.
    pub(super) fn is_detached(&self) -> bool {
        matches!(self.phase, Phase::Waiting)
    }

    /// When allocations were seen, of the time from `started` to `now`.
    pub(super) fn attachment(&self, started: Duration, now: Duration) -> Attachment {
        let running = self.since.map_or(Duration::ZERO, |since| now.saturating_sub(since));
        let whole = now.saturating_sub(started).as_secs_f64();
        let share = if self.gaps == 0 || whole <= 0.0 {
            1.0
        } else {
            ((self.attached + running).as_secs_f64() / whole).min(1.0)
        };
        Attachment { share, gaps: self.gaps }
    }

    fn set_phase(&mut self, phase: Phase, now: Duration) {
        let sees = |phase| matches!(phase, Phase::Attached | Phase::Counting(..));
        if sees(self.phase) && !sees(phase) {
            self.attached += self.since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
            self.gaps += 1;
        } else if !sees(self.phase) && sees(phase) {
            self.since = Some(now);
        }
        self.phase = phase;
    }
}

fn is_sampling(shift: Shift) -> bool {
    shift != EXACT && shift != NOTHING
}

impl Session {
    /// Measures what a probe costs here, unless that is known. Without it no overhead is reported.
    ///
    /// # Errors
    /// With a budget: the kernel refused a probe on memtrace itself.
    pub(super) fn calibrate(&mut self) -> anyhow::Result<()> {
        if self.control.prices.is_none() {
            match self.tracer.calibrate() {
                Ok(prices) => self.control.prices = Some(prices),
                Err(error) if self.control.counting.limit.is_some() => return Err(error.into()),
                Err(error) => tracing::warn!("what tracing costs will not be known: {error:#}"),
            }
        }
        Ok(())
    }

    /// With a budget: counts the targets' calls for a moment, and chooses how to trace them. Returns what that will cost,
    /// in words.
    ///
    /// # Errors
    /// The kernel refused a probe on memtrace itself.
    pub fn choose(&mut self) -> anyhow::Result<Option<String>> {
        let Some(limit) = self.control.counting.limit else { return Ok(None) };
        self.calibrate()?;
        let Some(prices) = self.control.prices else { return Ok(None) };
        let first = self.reading();
        let mut budget = Budget::new(limit, prices, self.control.counting.choice, first);
        let begin = Instant::now();
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
        self.control.gaps = 0;
        Ok(Some(words))
    }

    /// What was used so far.
    pub(super) fn reading(&mut self) -> Reading {
        let cpu = self.targets.iter_mut().map(super::resolve::Traced::cpu_time).sum();
        Reading { at: self.tracer.elapsed(), cpu, work: self.tracer.work() }
    }

    /// What tracing has cost since it began.
    pub(super) fn overhead(&mut self) -> Option<Overhead> {
        let Reading { cpu, work, .. } = self.reading();
        let prices = self.control.prices?;
        Some(Overhead {
            spent: budget::spent(&work, &prices),
            cpu,
            calls: work.calls(),
            limit: self.control.counting.limit,
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
            Phase::Counting(..) | Phase::Watching(_) if Instant::now() < self.control.until => self.soon(),
            Phase::Counting(begin, window) => {
                self.tracer.pause(false);
                self.control.set_phase(Phase::Watching(begin), now.at);
                self.control.until = Instant::now() + window.watch;
                self.soon()
            }
            Phase::Watching(begin) => {
                self.tracer.pause(true);
                let now = self.reading();
                self.control.set_phase(Phase::Waiting, now.at);
                let Some(budget) = &mut self.control.budget else { return Next::Look(PERIOD) };
                let verdict = budget.window_ended(begin, now);
                self.obey(verdict)
            }
        }
    }

    /// When to look again.
    fn soon(&self) -> Next {
        let left = self.control.until.saturating_duration_since(Instant::now());
        match self.control.phase {
            Phase::Attached => Next::Look(PERIOD),
            Phase::Waiting => Next::Look(WAIT),
            Phase::Counting(..) | Phase::Watching(_) => Next::Look(left),
        }
    }

    fn obey(&mut self, verdict: Verdict) -> Next {
        let at = self.tracer.elapsed().saturating_sub(self.started).as_secs_f64();
        let limit = self.control.counting.limit.map(format_percent).unwrap_or_default();
        match verdict {
            Verdict::Keep => self.soon(),
            Verdict::Switch(mode) => {
                let tuned = matches!(mode, Mode::Steady(shift) if is_sampling(shift) && is_sampling(self.control.shift));
                self.enter(mode);
                if !tuned {
                    self.remark(format!(
                        "since {at:.1} s {}, to stay within {limit} of the CPU time",
                        ways(mode)
                    ));
                }
                self.soon()
            }
            Verdict::Cut(share, mode) => {
                self.enter(mode);
                self.remark(format!(
                    "tracing took {} of the CPU time, far more than the {limit} allowed: detached at {at:.1} s; from then on {}",
                    format_percent(share),
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
        self.control.sampled |= is_sampling(mode.shift());
        self.tracer.set_sampling(mode.shift());
        match mode {
            Mode::Steady(_) => {
                if self.control.is_detached() {
                    self.attach_again();
                }
                self.control.set_phase(Phase::Attached, now);
            }
            Mode::Windows(_) => {
                self.tracer.pause(true);
                self.control.set_phase(Phase::Waiting, now);
            }
        }
    }

    fn open(&mut self, begin: Reading, window: Window) {
        self.attach_again();
        let now = self.tracer.elapsed();
        self.control.set_phase(Phase::Counting(begin, window), now);
        self.control.until = Instant::now() + window.count;
    }

    fn attach_again(&mut self) {
        for target in &self.targets {
            if let Err(error) = target.attach_again(&mut self.tracer)
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

/// What tracing will cost, before it begins.
fn plan(budget: &Budget) -> String {
    let calls = format_number(budget.calls_per_second().round() as u64);
    let calls = format!("{calls} calls a second");
    let limit = format_percent(budget.limit());
    let exact = format_percent(budget.share_exact());
    match budget.mode() {
        Mode::Steady(EXACT) if budget.calls_per_second() == 0.0 => {
            format!(
                "no calls yet: every allocation is counted, as long as that takes at most {limit} of the CPU time"
            )
        }
        Mode::Steady(EXACT) => {
            format!("{calls}: counting every allocation takes about {exact} of the CPU time")
        }
        mode @ Mode::Steady(_) => {
            format!(
                "{calls}: counting every allocation would take {exact} of it, {limit} are allowed; so {}",
                ways(mode)
            )
        }
        mode @ Mode::Windows(_) => format!(
            "{calls}: probes that stay would take {} of the CPU time, {limit} are allowed; so {}",
            format_percent(budget.share_cheapest()),
            ways(mode)
        ),
    }
}
