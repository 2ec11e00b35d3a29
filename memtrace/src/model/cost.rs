//! What tracing costs.

use std::time::Duration;

/// What probes cost on this machine, in ns, whatever the programs behind them do.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// A probe on a function that frees.
    pub free: f64,
    /// Those on a function that allocates, at its entry and its return.
    pub call: f64,
    /// The same for a call that is left out: less where its return is then not probed.
    pub left_out: f64,
    /// What is added at a site whose instruction the kernel single-steps.
    pub stepping: f64,
}

/// What tracing has taken of the targets' CPU time, as measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Overhead {
    /// CPU time spent in traps and in the programs behind them.
    pub spent: Duration,
    /// CPU time of the targets since tracing began, the above included.
    pub cpu: Duration,
    /// Time since tracing began.
    pub elapsed: Duration,
    /// Calls that were seen: allocations, mappings and frees.
    pub calls: u64,
    /// The largest share of the CPU time that is allowed; `None`: any.
    pub limit: Option<f64>,
    /// The share of a processor that is allowed even to a target that uses little CPU time.
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
        let elapsed = self.elapsed.as_secs_f64();
        if elapsed > 0.0 { self.spent.as_secs_f64() / elapsed } else { 0.0 }
    }
}
