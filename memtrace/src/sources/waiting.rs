//! Waiting for a condition on the memory of processes, with /proc only.

use std::time::{Duration, Instant};

use crate::{
    analysis::when::{Condition, Figures, Waiting},
    kernel::{MemoryCgroup, machine},
    target::{Process, usage::Usage},
};

/// Time between two looks. One takes some tens of microseconds.
const STEP: Duration = Duration::from_secs(1);

/// Why waiting ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Woken {
    /// A condition holds, of the process with this pid.
    Holds(u32, Condition),
    /// All processes have ended.
    Ended,
    /// `pause` was interrupted.
    Interrupted,
}

/// Processes, and the conditions that are waited for.
#[derive(Debug)]
pub struct Waiter {
    watched: Vec<Watched>,
    conditions: Vec<Condition>,
}

#[derive(Debug)]
struct Watched {
    process: Process,
    cgroup: Option<MemoryCgroup>,
    waiting: Vec<Waiting>,
}

impl Waiter {
    /// Nothing is known of the processes yet.
    #[must_use]
    pub fn new(processes: Vec<Process>, conditions: Vec<Condition>) -> Self {
        let watched = processes.into_iter().map(|process| {
            let cgroup = MemoryCgroup::of(process.pid.get());
            Watched { process, cgroup, waiting: Vec::new() }
        });
        Self { watched: watched.collect(), conditions }
    }

    /// Waits until a condition holds for one of the processes. `pause` waits for some time, and returns whether it was
    /// interrupted.
    pub fn wait(&mut self, pause: impl Fn(Duration) -> bool) -> Woken {
        let begun = Instant::now();
        for watched in &mut self.watched {
            watched.waiting = self.conditions.iter().cloned().map(Waiting::new).collect();
        }
        loop {
            let now = begun.elapsed();
            let of_machine = self.conditions.iter().any(Condition::needs_pressure);
            let pressure = of_machine.then(|| machine::pressure(&machine::Roots::default())).flatten();
            self.watched.retain(|watched| !watched.process.has_exited());
            for watched in &mut self.watched {
                if let Some(condition) = watched.look(now, pressure) {
                    return Woken::Holds(watched.process.pid.get(), condition);
                }
            }
            if self.watched.is_empty() {
                return Woken::Ended;
            }
            if pause(STEP.saturating_sub(begun.elapsed().saturating_sub(now))) {
                return Woken::Interrupted;
            }
        }
    }

    /// Whether all processes have ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.watched.iter().all(|watched| watched.process.has_exited())
    }
}

impl Watched {
    /// The first condition that holds now.
    fn look(&mut self, now: Duration, pressure: Option<f64>) -> Option<Condition> {
        let usage = Usage::read(self.process.pid.get())?;
        let rss = usage.anon.saturating_add(usage.file).saturating_add(usage.shmem);
        let of_limits = self.waiting.iter().any(|waiting| waiting.condition().needs_limits());
        let left = self.cgroup.as_ref().filter(|_| of_limits).and_then(left);
        let figures = Figures { rss: rss.saturating_add(usage.swap), pressure, left };
        // Each has to see every moment, also behind one that holds.
        let mut held = self
            .waiting
            .iter_mut()
            .filter_map(|waiting| waiting.holds(now, &figures).then(|| waiting.condition().clone()));
        let first = held.next();
        held.for_each(drop);
        first
    }
}

/// The smallest share that is left of a limit at which processes are killed.
fn left(cgroup: &MemoryCgroup) -> Option<f64> {
    let limits = cgroup.limits().into_iter().filter(|limit| !limit.slows && limit.bytes > 0);
    let shares = limits.filter_map(|limit| {
        let held = cgroup.usage_of(&limit)?.held();
        Some(limit.bytes.saturating_sub(held) as f64 / limit.bytes as f64)
    });
    shares.min_by(f64::total_cmp)
}
