//! Domain: keeps the cost of tracing within a budget. Pure: no I/O, no clock.
//!
//! The cost is that of the traps, by their measured price on this machine, and the time measured inside the
//! programs. An account compares it with the targets' CPU time: CPU time pays in, at the rate of the limit; tracing
//! draws on it. In debt, tracing steps down: from counting every allocation to sampling, and from there to windows, in
//! which probes are in place for only a few milliseconds, and which are paid for in advance.

mod account;
mod plan;
mod rates;

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Duration};

use memtrace_common::{
    Shift, Work,
    sampling::{EXACT, MAX_SHIFT},
};

use account::Account;
pub use plan::{Choice, Due, Mode, Reading, Verdict, Window};
use rates::{Inside, Rates};

use crate::model::Prices;

/// What `--sample auto` begins with: one sample per 32 KiB. Too many at first is better than none: what was not sampled
/// then is missing for as long as it lives.
pub const AUTO_SHIFT: Shift = 15;

/// Tracing is not stepped down because a target hardly runs: at least this share of a processor counts as used. So with
/// a limit of 10 % one twentieth of a processor may be spent on any target: 0.3 % for one that uses 3 % of a processor
/// would protect nobody, and show nothing.
pub const LEAST_BUSY: f64 = 0.5;

/// The smallest mean distance between samples: 4 KiB.
const MIN_SHIFT: Shift = 12;
/// Samples a second that give a fair picture and cost next to nothing.
const SAMPLES_PER_SECOND: f64 = 1000.0;

/// How many times larger than needed a budget must be to be clearly sufficient.
const AMPLE: f64 = 4.0;
/// How much of the past is used to judge the present.
const RECENT: Duration = Duration::from_secs(1);
/// The part of it that must have passed before tracing can be stopped.
const LEAST: Duration = Duration::from_millis(150);
/// The multiple of the limit that counts as far too much.
const HARD: f64 = 2.0;
/// The part of the limit to aim for: the cost of windows besides the calls in them, and what a price does not include
/// of its surroundings, must fit into the rest. (`cargo xtask bench budget`: aiming for all of 5 and 20 %, 5.6 and 21.5
/// % were lost.)
const AIM: f64 = 0.88;
/// Debt at which tracing steps down, in CPU time of the target.
const DEBT: Duration = Duration::from_millis(500);
/// How long the cost must have been low before tracing does more again.
const CALM: Duration = Duration::from_secs(10);
/// The approximate time from one window to the next, and the minimum length of one.
const CYCLE: Duration = Duration::from_secs(3);
const SHORTEST: Duration = Duration::from_millis(60);
/// The maximum length of one in which tracing takes so much of the CPU time that the target slows down to half its speed or
/// less, so that nothing waits for it longer than this.
const LONGEST: Duration = Duration::from_millis(150);
const SLOW: f64 = 0.5;
/// The part of a window in which allocations are counted; in the rest only frees are, so that short-lived blocks
/// are not mistaken for those that stay.
pub const COUNTING: f64 = 1.0 / 3.0;
/// A budget that pays for a window less often than this is too small.
const PATIENCE: Duration = Duration::from_secs(120);

/// CPU time that tracing took for everything the programs did.
#[must_use]
pub fn spent(work: &Work, prices: &Prices) -> Duration {
    Duration::from_nanos(account::cost(work, prices) as u64)
}

/// The share of the CPU time, as it counts, that went into tracing between two readings.
#[must_use]
pub fn share_between(before: &Reading, now: &Reading, prices: &Prices) -> f64 {
    account::share(before, now, prices)
}

/// Calls that allocated and calls that freed between two readings while both were seen.
#[must_use]
pub fn came_and_went(before: &Reading, now: &Reading) -> (u64, u64) {
    let work = account::difference(&before.work, &now.work);
    (work.entries.iter().sum(), work.frees.iter().sum::<u64>() + work.moves)
}

/// A budget and its state.
#[derive(Clone, Debug)]
pub struct Budget {
    limit: f64,
    prices: Prices,
    choice: Choice,
    mode: Mode,
    account: Account,
    inside: Inside,
    /// The cost of the calls when probes were last in place.
    rates: Rates,
    /// The last readings, oldest first.
    recent: VecDeque<Reading>,
    calm_since: Duration,
    /// What was paid for the window that is open, in ns of CPU time.
    paid: f64,
}

impl Budget {
    /// A budget of `limit` (0 to 1) of the targets' CPU time.
    #[must_use]
    pub fn new(limit: f64, prices: Prices, choice: Choice, now: Reading) -> Self {
        let shift = match choice {
            Choice::Auto => EXACT,
            Choice::Fixed(shift) => shift,
        };
        Self {
            limit,
            prices,
            choice,
            mode: Mode::Steady(shift),
            account: Account::new(limit * AIM),
            inside: Inside::new(prices),
            rates: Rates::default(),
            recent: VecDeque::from([now]),
            calm_since: now.at,
            paid: 0.0,
        }
    }

    /// The limit.
    #[must_use]
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// How allocations are counted.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// Whether the counts since the budget was created clearly allow counting every allocation.
    #[must_use]
    pub fn is_ample(&self, now: Reading) -> bool {
        self.recent.back().is_some_and(|before| {
            let rates = Rates::between(before, &now, &self.prices);
            rates.share(self.window_shift(), &self.inside, &self.prices) < self.limit / AMPLE
        })
    }

    /// Chooses how to begin, after calls have only been counted for a moment.
    pub fn begin(&mut self, now: Reading) -> Mode {
        if let Some(before) = self.recent.back() {
            self.rates = Rates::between(before, &now, &self.prices);
        }
        self.book(now);
        self.mode = self.best(1.0);
        self.mode
    }

    /// Calls per second without tracing, and whether that is only a lower bound.
    #[must_use]
    pub fn calls_per_second(&self) -> (f64, bool) {
        self.rates.calls_per_second()
    }

    /// Whether it chooses which allocations are counted; otherwise the user did.
    #[must_use]
    pub fn chooses(&self) -> bool {
        self.choice == Choice::Auto
    }

    /// Whether the targets use so little CPU time that shares are of a tenth of a processor instead.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.rates.is_quiet()
    }

    /// What it would cost to count every allocation, as a share of the CPU time.
    #[must_use]
    pub fn share_exact(&self) -> f64 {
        self.share(EXACT)
    }

    /// The same for the cheapest way of continuous tracing.
    #[must_use]
    pub fn share_cheapest(&self) -> f64 {
        match self.choice {
            Choice::Auto => self.share(EXACT).min(self.share(AUTO_SHIFT)),
            Choice::Fixed(shift) => self.share(shift),
        }
    }

    /// Checks the cost while probes are in place.
    pub fn observe(&mut self, now: Reading) -> Verdict {
        self.book(now);
        let Some(before) = self.recent.front().copied() else { return Verdict::Keep };
        let share = account::share(&before, &now, &self.prices);
        self.inside.learn(self.mode.shift(), &before.work, &now.work);
        self.rates = Rates::between(&before, &now, &self.prices);
        let far = share > HARD * self.limit;
        let is_certain = now.at.saturating_sub(before.at) >= LEAST;
        let beyond = self.account.balance() < 0.0 && share > self.limit;
        if beyond && (far && is_certain || self.account.is_in_debt(DEBT)) {
            let best = self.best(1.0);
            // The current mode costs too much, whatever was expected.
            let next = if best == self.mode { Mode::Windows(self.window_shift()) } else { best };
            self.enter(next, now);
            return match next {
                Mode::Windows(_) if far => Verdict::Cut(share, next),
                _ => Verdict::Switch(next),
            };
        }
        self.ease(now, share)
    }

    /// Whether tracing can do more again, or should take more or fewer samples.
    fn ease(&mut self, now: Reading, share: f64) -> Verdict {
        let Mode::Steady(shift) = self.mode else { return Verdict::Keep };
        if self.choice != Choice::Auto || shift == EXACT {
            return Verdict::Keep;
        }
        if share > self.limit / 2.0 || self.share(EXACT) > self.limit / 2.0 {
            self.calm_since = now.at;
        }
        if now.at.saturating_sub(self.calm_since) >= CALM {
            self.enter(Mode::Steady(EXACT), now);
            return Verdict::Switch(self.mode);
        }
        match self.tuned(shift, now) {
            same if same == shift => Verdict::Keep,
            other => {
                self.enter(Mode::Steady(other), now);
                Verdict::Switch(self.mode)
            }
        }
    }

    /// The shift for a useful number of samples per second, if the current one is far off.
    fn tuned(&self, shift: Shift, now: Reading) -> Shift {
        let Some(before) = self.recent.front() else { return shift };
        let seconds = now.at.saturating_sub(before.at).as_secs_f64();
        let returns = now.work.returns().saturating_sub(before.work.returns());
        let pairs = |work: &Work| work.entries.iter().sum::<u64>().saturating_sub(work.plain);
        let entries = pairs(&now.work).saturating_sub(pairs(&before.work));
        // Without sessions every call returns through a probe, so samples cannot be distinguished. Nor can they if most
        // results are seen at exits.
        let plain = now.work.plain.saturating_sub(before.work.plain);
        if seconds < RECENT.as_secs_f64() / 2.0 || returns * 2 > entries || plain > entries {
            return shift;
        }
        let off = (returns as f64 / seconds / SAMPLES_PER_SECOND).max(1e-3).log2();
        if off.abs() < 2.0 {
            shift
        } else {
            (shift as f64 + off).round().clamp(MIN_SHIFT as f64, MAX_SHIFT as f64) as Shift
        }
    }

    /// Whether a window can be opened now, and its length: `more` than otherwise. Until then, time pays in.
    pub fn window(&mut self, now: Reading, more: Duration) -> Due {
        self.book(now);
        let length = self.window_length();
        let price = self.window_price(length + more);
        if self.account.can_pay(price) {
            self.paid = price;
            Due::Now(Window { count: length.mul_f64(COUNTING), watch: length.mul_f64(1.0 - COUNTING) + more })
        } else if self.account.time_to_earn(price, self.cpu_rate()) > PATIENCE {
            Due::Never
        } else {
            Due::Later
        }
    }

    /// Whether the window that began at `begin` has cost much more than was paid for it: the targets do more than before.
    #[must_use]
    pub fn is_overdrawn(&self, begin: &Reading, now: &Reading) -> bool {
        let cost = account::cost(&account::difference(&begin.work, &now.work), &self.prices);
        cost > HARD * self.paid.max(self.limit * SHORTEST.as_nanos() as f64)
    }

    /// A window has ended; it began at `begin`.
    pub fn window_ended(&mut self, begin: Reading, now: Reading) -> Verdict {
        self.book(now);
        self.inside.learn(self.mode.shift(), &begin.work, &now.work);
        self.rates = Rates::between(&begin, &now, &self.prices);
        let best = self.best(2.0);
        if best != self.mode && matches!(best, Mode::Steady(_)) {
            if now.at.saturating_sub(self.calm_since) >= CALM {
                self.enter(best, now);
                return Verdict::Switch(best);
            }
        } else {
            self.calm_since = now.at;
        }
        Verdict::Keep
    }

    fn window_length(&self) -> Duration {
        let share = self.share(self.mode.shift());
        let length = CYCLE.mul_f64(self.limit / share.max(self.limit)).max(SHORTEST);
        if share > SLOW { length.min(LONGEST) } else { length }
    }

    /// CPU time in ns that a window will cost. Shares are of what counts as used.
    fn window_price(&self, length: Duration) -> f64 {
        self.share(self.mode.shift()) * self.cpu_rate().max(LEAST_BUSY) * length.as_nanos() as f64
    }

    /// Processors that the targets keep busy.
    fn cpu_rate(&self) -> f64 {
        let (Some(first), Some(last)) = (self.recent.front(), self.recent.back()) else { return 1.0 };
        let span = last.at.saturating_sub(first.at).as_secs_f64();
        if span < 0.05 { 1.0 } else { last.cpu.saturating_sub(first.cpu).as_secs_f64() / span }
    }

    fn share(&self, shift: Shift) -> f64 {
        self.rates.share(shift, &self.inside, &self.prices)
    }

    /// The mode that counts most and stays within the limit, with room for `margin` times its cost.
    fn best(&self, margin: f64) -> Mode {
        let candidates: &[Shift] = match self.choice {
            Choice::Auto => &[EXACT, AUTO_SHIFT],
            Choice::Fixed(ref shift) => std::slice::from_ref(shift),
        };
        let fits = |shift: &&Shift| self.share(**shift) * margin <= self.limit * AIM;
        candidates.iter().find(fits).map_or(Mode::Windows(self.window_shift()), |&shift| Mode::Steady(shift))
    }

    /// In windows a counted call costs little more than one that is not: all are counted.
    fn window_shift(&self) -> Shift {
        match self.choice {
            Choice::Auto => EXACT,
            Choice::Fixed(shift) => shift,
        }
    }

    fn enter(&mut self, mode: Mode, now: Reading) {
        self.mode = mode;
        self.calm_since = now.at;
        self.recent.clear();
        self.recent.push_back(now);
    }

    fn book(&mut self, now: Reading) {
        if let Some(last) = self.recent.back() {
            self.account.book(last, &now, &self.prices);
        }
        self.recent.push_back(now);
        while self.recent.get(1).is_some_and(|second| now.at.saturating_sub(second.at) >= RECENT) {
            self.recent.pop_front();
        }
    }
}
