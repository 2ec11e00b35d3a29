//! The balance of each process: samples once a second, and what is looked up for a report.

mod children;
mod gauge;
mod heap;
mod ledger;
mod thread_stacks;

use std::time::Duration;

use rustc_hash::FxHashMap;

use self::{
    gauge::{Gauge, Question},
    ledger::Ledger,
};
use super::{
    census::{GLIBC, JEMALLOC},
    session::Session,
    traced::Traced,
};
use crate::{
    analysis::balance::{self, Circumstances},
    profile::{Amount, Balance, Knowledge, Losses, Row, Uncounted},
    target::usage::Usage,
};

/// A last report is worth a sample of its own if the one before is at least this old.
const FRESH: Duration = Duration::from_millis(200);

/// Blocks of a program that were seen.
#[derive(Clone, Copy, Default)]
struct Turnover {
    allocated: Amount,
    freed: Amount,
}

impl Turnover {
    /// What is not freed.
    fn left(&self) -> Amount {
        self.allocated.minus(self.freed)
    }

    /// The part that was freed, at most 1. `unknown`: frees of blocks that were not seen allocated.
    fn freed_part(&self, unknown: u64) -> Option<f64> {
        let freed = self.freed.blocks.saturating_add(unknown) as f64;
        (self.allocated.blocks > 0).then(|| (freed / self.allocated.blocks as f64).min(1.0))
    }
}

/// What is kept for the balances of all targets.
#[derive(Default)]
pub(super) struct Ledgers {
    by_index: FxHashMap<u32, Ledger>,
    gauge: Option<Gauge>,
}

impl Ledgers {
    /// Another program runs: its memory has nothing to do with the one before.
    pub(super) fn forget(&mut self, index: u32) {
        self.by_index.remove(&index);
    }
}

/// Whether allocators with these names can all be asked.
fn are_measurable(allocators: &[String]) -> bool {
    let is_known = |name: &String| is_glibc(name) || name.starts_with(JEMALLOC[0]);
    !allocators.is_empty() && allocators.iter().all(is_known)
}

fn is_glibc(name: &str) -> bool {
    GLIBC.contains(&name)
}

impl Session {
    /// Has the allocators of targets asked what they have, where a budget may leave windows only.
    fn gauge(&mut self) {
        let may_have_gaps = self.control.gaps > 0 || self.control.budget.is_some();
        let Some(most) = self.leaks.affordable().filter(|_| may_have_gaps && self.options.verdicts) else {
            return;
        };
        if self.ledgers.gauge.is_none() {
            self.ledgers.gauge =
                Gauge::start().inspect_err(|error| tracing::debug!("no gauge: {error}")).ok();
        }
        let Some(gauge) = &mut self.ledgers.gauge else { return };
        while let Some(answer) = gauge.answer() {
            let at = self.tracer.elapsed().saturating_sub(answer.taken.elapsed());
            let target = self.targets.iter().find(|target| target.id() == answer.id);
            let ledger = target.and_then(|target| self.ledgers.by_index.get_mut(&target.index));
            if let Some((ledger, size)) = ledger.zip(answer.size) {
                ledger.measured.add(at, size);
            }
        }
        if !gauge.is_ready() {
            return;
        }
        gauge.retain(|id| self.targets.iter().any(|target| target.id() == id));
        let now = self.tracer.elapsed();
        // While every block is counted, only where it began is of interest, and that no more than it costs.
        let has_gaps = self.control.gaps > 0;
        let is_due = |target: &&Traced| {
            let ledger = self.ledgers.by_index.get(&target.index);
            !target.process.has_exited()
                && are_measurable(&target.allocators)
                && ledger.is_some_and(|Ledger { measured, .. }| match has_gaps {
                    true => measured.is_due(now),
                    false => measured.samples().is_empty(),
                })
        };
        let due = self.targets.iter().filter(is_due);
        if let Some(target) = due.min_by_key(|target| gauge.asked(target.id())) {
            let has_glibc = target.allocators.iter().any(|name| is_glibc(name));
            let most = if has_gaps { most } else { most / 4 };
            gauge.ask(Question { id: target.id(), pid: target.pid().get(), has_glibc, most });
        }
    }

    /// Takes a sample of each process where one is due. With `now_too`, also where it is almost.
    pub(super) fn weigh(&mut self, now_too: bool) {
        self.gauge();
        // Blocks of an open window may be freed in a moment.
        if self.control.open_window().is_some() && !self.ledgers.by_index.is_empty() {
            return;
        }
        let now = self.tracer.elapsed();
        let is_due = |ledger: &Ledger| {
            ledger.series.is_due(now) || now_too && now.saturating_sub(ledger.last) >= FRESH
        };
        let due: Vec<usize> = (0..self.targets.len())
            .filter(|&at| {
                self.targets
                    .get(at)
                    .is_some_and(|target| self.ledgers.by_index.get(&target.index).is_none_or(is_due))
            })
            .collect();
        if due.is_empty() {
            return;
        }
        let blocks = self.blocks();
        let seen = self.control.seen(now);
        for at in due {
            let Some(target) = self.targets.get(at).filter(|target| !target.process.has_exited()) else {
                continue;
            };
            let (index, pid) = (target.index, target.pid().get());
            let Some(usage) = Usage::read(pid) else { continue };
            let blocks = blocks.get(&target.id()).map(Turnover::left).unwrap_or_default();
            let ledger =
                self.ledgers.by_index.entry(index).or_insert_with(|| Ledger::new(pid, &self.targets));
            let ranges = self.ranges.get(&index);
            let is_stack = |slot| self.stacks.get(slot).is_some_and(|stack| stack.passage.thread);
            ledger.measure_ranges(pid, ranges, is_stack);
            ledger.add(now, &usage, blocks, seen);
        }
    }

    /// Blocks allocated and freed by target and generation.
    fn blocks(&self) -> FxHashMap<u32, Turnover> {
        let mut sums: FxHashMap<u32, Turnover> = FxHashMap::default();
        for stack in self.tracer.stacks().filter(|stack| !self.is_nested(stack.slot)) {
            let sum = sums.entry(stack.target).or_default();
            sum.allocated = sum.allocated.plus(stack.allocated);
            sum.freed = sum.freed.plus(stack.freed);
        }
        sums
    }

    /// The balances of all processes that were sampled. `rows` are those of the report. `curves`: with what they held over the
    /// session. `uncounted`: why not all blocks are counted.
    pub(super) fn balances(
        &mut self,
        rows: &[Row],
        uncounted: Option<Uncounted>,
        last: bool,
        curves: bool,
    ) -> Vec<Balance> {
        self.weigh(last);
        let knowledge = if self.control.gaps > 0 {
            Knowledge::AtMost
        } else if self.control.sampled() {
            Knowledge::Sampled
        } else {
            Knowledge::Counted
        };
        let traced: Vec<u32> = self.processes().map(|process| process.pid.get()).collect();
        let has_ended = |target: &Traced| target.process.has_exited();
        let wants_blocks = knowledge == Knowledge::AtMost || self.targets.iter().any(has_ended);
        let blocks = if wants_blocks { self.blocks() } else { FxHashMap::default() };
        // Of all targets together: with several, fewer blocks are inferred.
        let unknown = self.tracer.work().unknown_frees;
        let mut balances = Vec::new();
        for target in &self.targets {
            let pid = target.pid().get();
            let Some(ledger) = self.ledgers.by_index.get_mut(&target.index) else { continue };
            if !has_ended(target) {
                ledger.look_at_stacks(pid);
                ledger.look_at_children(pid, &traced);
                ledger.look_at_heap(pid);
            }
            let own = || rows.iter().filter(|row| row.pid() == pid);
            let lost = own().map(|row| row.loss().1).sum();
            let leaking = own().filter_map(|row| row.verdict.as_deref()?.leaking()).sum();
            let growing = own().filter(|row| row.is_leaking()).map(|row| row.allocated.minus(row.freed));
            let growing = growing.fold(Amount::default(), Amount::plus);
            let of = blocks.get(&target.id()).copied().unwrap_or_default();
            let ended = has_ended(target).then_some(of.left());
            let freed_part = of.freed_part(unknown);
            let known = ledger.circumstances(&target.allocators);
            let circumstances = Circumstances {
                pid,
                ended,
                knowledge,
                uncounted,
                freed_part,
                lost,
                leaking,
                growing,
                ..known
            };
            let (samples, circumstances) = ledger.as_measured(circumstances);
            let mut balance = balance::balance(&samples, &circumstances);
            if curves {
                balance.weights = balance::weights(&samples, &circumstances, &balance.grown);
            }
            balances.push(ledger.with_children(balance, &traced));
        }
        self.trim_weights(&mut balances);
        balances
    }

    /// Why not all blocks are counted.
    pub(super) fn uncounted(&self, losses: &Losses) -> Option<Uncounted> {
        let untracked = Amount { bytes: losses.live_map_full_bytes, blocks: losses.live_map_full };
        if untracked.blocks > 0 {
            return Some(Uncounted::TableFull(untracked));
        }
        self.options.config.has_sizes().then_some(Uncounted::Sizes)
    }

    /// What is known of the mappings of a stack besides their size: private bytes in memory, and if they are stacks of threads,
    /// how many, and of how many the thread has ended.
    pub(super) fn known_of(&self, index: u32, slot: u32) -> (Option<u64>, Option<(u64, u64)>) {
        let Some(ledger) = self.ledgers.by_index.get(&index) else { return (None, None) };
        (ledger.resident(slot), ledger.stacks.get(&slot).map(|of| (of.count, of.ended)))
    }
}
