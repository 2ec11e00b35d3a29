//! What may be spent, and what was spent.

use std::time::Duration;

use memtrace_common::Work;

use super::{LEAST_BUSY, Reading};
use crate::model::Prices;

/// The most CPU time whose share can be saved up, so that a quiet hour does not pay for a storm.
const SAVINGS: Duration = Duration::from_secs(5);

/// CPU time of tracing in ns.
pub(super) fn cost(work: &Work, prices: &Prices) -> f64 {
    let entries = work.entries[0] + work.entries[1];
    let pairs = entries.saturating_sub(work.plain);
    let left_out = pairs.saturating_sub(work.returns());
    let single = work.plain + work.exits[0] + work.exits[1] + work.frees[0] + work.frees[1];
    let traps = (pairs - left_out) as f64 * prices.call
        + left_out as f64 * prices.left_out
        + single as f64 * prices.free
        + (work.entries[1] + work.frees[1] + work.exits[1]) as f64 * prices.stepping;
    traps + work.nanoseconds as f64
}

/// The share of the CPU time that went into tracing between two readings.
pub(super) fn share(before: &Reading, now: &Reading, prices: &Prices) -> f64 {
    cost(&difference(&before.work, &now.work), prices) / counted(before, now).max(1.0)
}

/// What happened between two readings.
pub(super) fn difference(before: &Work, now: &Work) -> Work {
    let minus = |now: u64, before: u64| now.saturating_sub(before);
    Work {
        entries: [minus(now.entries[0], before.entries[0]), minus(now.entries[1], before.entries[1])],
        frees: [minus(now.frees[0], before.frees[0]), minus(now.frees[1], before.frees[1])],
        moves: minus(now.moves, before.moves),
        plain: minus(now.plain, before.plain),
        exits: [minus(now.exits[0], before.exits[0]), minus(now.exits[1], before.exits[1])],
        unknown_frees: minus(now.unknown_frees, before.unknown_frees),
        nanoseconds: minus(now.nanoseconds, before.nanoseconds),
        runs: minus(now.runs, before.runs),
        ..Work::default()
    }
}

/// An account in ns of CPU time.
#[derive(Clone, Debug)]
pub(super) struct Account {
    limit: f64,
    balance: f64,
    /// What is being saved up for.
    aim: f64,
}

impl Account {
    pub(super) fn new(limit: f64) -> Self {
        Self { limit, balance: 0.0, aim: 0.0 }
    }

    pub(super) fn balance(&self) -> f64 {
        self.balance
    }

    /// Credits what the time between two readings allows, and debits what tracing took.
    pub(super) fn book(&mut self, before: &Reading, now: &Reading, prices: &Prices) {
        let earned = self.limit * counted(before, now);
        let spent = cost(&difference(&before.work, &now.work), prices);
        let most = (self.limit * SAVINGS.as_nanos() as f64).max(self.aim).max(self.balance);
        self.balance = (self.balance + earned - spent).min(most);
    }

    /// Whether `price` can be paid. If not, the account saves up for it.
    pub(super) fn can_pay(&mut self, price: f64) -> bool {
        self.aim = price;
        self.balance >= price
    }

    /// Whether more is owed than `time` of the targets' CPU time pays for.
    pub(super) fn is_in_debt(&self, time: Duration) -> bool {
        self.balance < -self.limit * time.as_nanos() as f64
    }

    /// How long it takes to earn this many ns with this many busy processors.
    pub(super) fn time_to_earn(&self, price: f64, processors: f64) -> Duration {
        let seconds = price / (self.limit * processors.max(LEAST_BUSY)) / 1e9;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }
}

/// CPU time that counts as used between two readings, in ns.
pub(super) fn counted(before: &Reading, now: &Reading) -> f64 {
    let wall = now.at.saturating_sub(before.at).as_nanos() as f64;
    (now.cpu.saturating_sub(before.cpu).as_nanos() as f64).max(LEAST_BUSY * wall)
}
