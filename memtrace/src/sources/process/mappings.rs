//! What the targets mapped themselves, by stack: how much, and what becomes of it.

use std::time::Duration;

use memtrace_common::Sample;

use super::{session::Session, traced::Traced};
use crate::{
    aggregate::{Calls, Census, Held, Living, Mapped, Ranges, SeenClock, Tracks},
    analysis::{Evidence, judge},
    profile::{Balance, MappingRow, MappingUse, Verdict},
};

/// What the stacks of all targets have mapped over the session.
#[derive(Debug, Default)]
pub(super) struct Mappings {
    series: Tracks,
}

impl Mappings {
    pub(super) fn begin(&mut self, now: Duration, turn: Duration) {
        self.series.begin(now, turn);
    }

    /// Forgets the stacks for which `is_past`.
    pub(super) fn forget(&mut self, is_past: impl Fn(u32) -> bool) {
        self.series.forget(is_past);
    }

    /// Notes what stacks have mapped at a moment.
    pub(super) fn record<'a>(&mut self, now: Duration, ranges: impl Iterator<Item = &'a Ranges>) {
        let held = ranges.flat_map(|ranges| {
            let mapped = ranges.by_stack();
            // Also those that have nothing mapped at the moment.
            ranges.stacks().map(move |(slot, calls)| {
                let mapped = mapped.get(&slot).copied().unwrap_or_default();
                Held { slot, bytes: mapped.amount.bytes, blocks: mapped.calls, allocated: calls.mapped }
            })
        });
        self.series.record(now, held, 0);
    }
}

/// When the mappings of a target were looked at, and when its program ended, on the kernel side's clock.
#[derive(Clone, Copy)]
struct Times {
    now: Duration,
    ended: Option<Duration>,
}

impl Times {
    /// Nothing changes after that.
    fn end(self) -> Duration {
        self.ended.unwrap_or(self.now)
    }
}

impl Session {
    /// What the targets mapped themselves, and by which stacks; `None` if that is not followed.
    pub(super) fn mappings(&self, now: Duration, balances: &[Balance]) -> Option<Vec<MappingRow>> {
        if self.control.mappings_dropped {
            return None;
        }
        let of =
            |target: &Traced| Some(self.mappings_of(target, self.ranges.get(&target.index)?, now, balances));
        Some(self.targets.iter().filter_map(of).flatten().collect())
    }

    fn mappings_of(
        &self,
        target: &Traced,
        ranges: &Ranges,
        now: Duration,
        balances: &[Balance],
    ) -> Vec<MappingRow> {
        let pid = target.pid().get();
        let times = Times { now, ended: self.end_of(target.id()) };
        let stacks = ranges.by_stack();
        let unjoined = balances.iter().any(|of| of.pid == pid && of.stacks.unjoined);
        let census = self.options.verdicts.then(|| {
            let begin = |slot| self.course.mappings.series.times(slot, times.end()).first;
            let mut census = Census::new(
                stacks.keys().map(|&slot| (slot, begin(slot)..times.end())),
                SeenClock::default(),
            );
            for (slot, since) in ranges.births() {
                census.add(slot, since, times.end().saturating_sub(since), Sample::new(1, 0));
            }
            census.finish();
            census
        });
        let row = |(slot, mapped): (u32, Mapped)| {
            let stack = self.stacks.get(slot);
            let (resident, threads) = self.known_of(target.index, slot);
            let living = census.as_ref().and_then(|census| census.of(slot));
            let calls = ranges.calls(slot);
            let mut row = MappingRow {
                id: stack.map_or(0, |stack| stack.hash),
                pid,
                stack: stack.map(|stack| stack.id),
                mapped: mapped.amount,
                oldest: now.saturating_sub(mapped.since),
                resident,
                used_for: MappingUse::Program,
                verdict: living.map(|living| Box::new(self.verdict_on(slot, mapped, living, &calls, times))),
            };
            if let Some((count, ended)) = threads {
                row.mapped.blocks = count;
                row.used_for = MappingUse::ThreadStacks { ended, unjoined };
            }
            row
        };
        stacks.into_iter().map(row).collect()
    }

    /// What the mappings of a stack do: they are followed exactly all the time, so the same holds as for blocks of which each is
    /// counted.
    fn verdict_on(&self, slot: u32, mapped: Mapped, living: &Living, calls: &Calls, times: Times) -> Verdict {
        let (end, ended) = (times.end(), times.ended.is_some());
        let series = &self.course.mappings.series;
        let evidence = Evidence {
            now: times.now.saturating_sub(self.started),
            ended,
            times: series.times(slot, end),
            living,
            freed: calls.lifetimes.iter().map(|&count| u64::from(count)).sum(),
            lifetimes: Some(&calls.lifetimes),
            bytes: mapped.amount.bytes,
            trend: series.trend(slot, end),
            ascent: series.ascent(slot, end),
            balance: None,
            windows: None,
            is_full: false,
            lost: None,
        };
        let (grounds, _) = judge(&evidence);
        let grounds = if ended { grounds.at_end() } else { grounds };
        // Every byte is known, so that nothing need be inferred from when mappings were made.
        Verdict { grounds, trend: evidence.trend, lifetimes: Some(calls.lifetimes) }
    }
}
