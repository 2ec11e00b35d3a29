//! What tracing costs, and what is allowed.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What tracing has taken of the targets' CPU time, as measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Overhead {
    /// CPU time spent in traps and in the programs behind them.
    pub spent: Duration,
    /// CPU time of the targets since tracing began, the above included.
    pub cpu: Duration,
    /// Time since tracing began.
    pub elapsed: Duration,
    /// Calls that were seen: allocations, mappings and frees.
    pub calls: u64,
    /// The largest share of the CPU time that is allowed; `None`: no limit.
    pub limit: Option<f64>,
    /// The share of a processor that is always allowed for a target that uses little CPU time.
    pub least: Option<f64>,
}

impl Overhead {
    /// The share of the targets' CPU time that went into tracing, 0 to 1.
    #[must_use]
    pub fn share(&self) -> f64 {
        let cpu = self.cpu.max(self.spent).as_secs_f64();
        if cpu > 0.0 { self.spent.as_secs_f64() / cpu } else { 0.0 }
    }

    /// The share of one processor that went into tracing; more than 1 where several did.
    #[must_use]
    pub fn processors(&self) -> f64 {
        self.of_processor(self.spent)
    }

    /// The share of one processor that the targets took for themselves.
    #[must_use]
    pub fn own_processors(&self) -> f64 {
        self.of_processor(self.cpu.saturating_sub(self.spent))
    }

    /// The share of one processor that is allowed, if the targets use so little CPU time that it decides.
    #[must_use]
    pub fn floor(&self) -> Option<f64> {
        let (limit, least) = self.limit.zip(self.least)?;
        (limit * self.of_processor(self.cpu) < least).then_some(least)
    }

    fn of_processor(&self, time: Duration) -> f64 {
        let elapsed = self.elapsed.as_secs_f64();
        if elapsed > 0.0 { time.as_secs_f64() / elapsed } else { 0.0 }
    }
}

/// A share of what a budget is measured against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// 0 to 1.
    pub share: f64,
    /// Whether it is of one processor, because the targets use little CPU time; otherwise of the targets' CPU time.
    pub of_processor: bool,
}

/// How allocations are counted to stay within a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pace {
    /// Mean number of bytes between two samples; `None`: every allocation is counted.
    pub sample_bytes: Option<u64>,
    /// Whether tracing happens in short windows only.
    pub windows: bool,
}

/// What tracing will cost, by an estimate before it begins.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Calls of the targets that probes will see, per second.
    pub calls_per_second: f64,
    /// Whether there may be many more: tracing took nearly all the time in which they were counted.
    pub at_least: bool,
    /// The cost of counting every allocation.
    pub exact: Share,
    /// The cost of the cheapest way to count all the time.
    pub cheapest: Share,
    /// What is allowed.
    pub limit: Share,
    /// Whether memtrace could choose the sampling.
    pub chooses: bool,
    /// What was chosen.
    pub pace: Pace,
}
