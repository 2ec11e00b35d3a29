//! Address ranges that a target mapped, and by which stack: what later calls cut, split and replace.

use std::{collections::BTreeMap, time::Duration};

use rustc_hash::FxHashMap;

use super::living::class_of;
use crate::profile::{Amount, Lifetimes};

/// Mappings consist of whole pages.
const PAGE: u64 = 4096;

/// The most ranges kept of one process: what Linux allows by default (`vm.max_map_count`), about 4 MiB.
const MAX_RANGES: usize = 1 << 16;

/// If joining neighbours makes no room, this many ranges are left out before the next attempt, which scans all.
const PATIENCE: usize = MAX_RANGES / 8;

/// A mapped range, which begins at its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    end: u64,
    slot: u32,
    since: Duration,
    /// Calls that mapped it; of one that was cut, a share.
    calls: u64,
}

impl Range {
    /// What is left of it from `start` to `end`; it began at `begin`.
    fn part(self, begin: u64, start: u64, end: u64) -> Self {
        let share = (end - start) as f64 / (self.end - begin).max(1) as f64;
        Self { end, calls: ((self.calls as f64 * share).round() as u64).max(1), ..self }
    }
}

/// What one stack has mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Bytes, and ranges.
    pub amount: Amount,
    /// Calls that mapped them.
    pub calls: u64,
    /// When the oldest of them was mapped, since the start of tracing.
    pub since: Duration,
}

/// The ranges of one process, by address; they never overlap.
///
/// Neighbours of one stack that were mapped at the same time are one. Those of different times are kept separate, since the
/// older may be unmapped first, as long as there is room; then they are joined too, and count as the oldest of them.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    ranges: BTreeMap<u64, Range>,
    /// Whether neighbours of different times were joined.
    joined: bool,
    left_out: Amount,
    patience: usize,
    /// What each stack did, by slot.
    calls: FxHashMap<u32, Calls>,
}

/// The calls of one stack so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// How many mapped something.
    pub mapped: u64,
    /// Of those unmapped or replaced as a whole, how long each lived.
    pub lifetimes: Lifetimes,
}

impl Ranges {
    /// Adds `length` bytes at `address`, mapped by the stack in `slot`. What was there is replaced.
    pub fn map(&mut self, address: u64, length: u64, slot: u32, since: Duration) {
        let Some(end) = end(address, length) else { return };
        self.unmap(address, length, since);
        self.calls.entry(slot).or_default().mapped += 1;
        self.insert(address, Range { end, slot, since, calls: 1 });
        self.join_at(address);
        self.join_at(end);
    }

    /// Joins the two ranges that meet at `address`, if they have the same stack and time.
    fn join_at(&mut self, address: u64) {
        let Some((&start, &lower)) = self.ranges.range(..address).next_back() else { return };
        let Some(&upper) = self.ranges.get(&address) else { return };
        if lower.end == address && lower.slot == upper.slot && lower.since == upper.since {
            self.ranges.remove(&address);
            let calls = lower.calls + upper.calls;
            self.ranges.insert(start, Range { end: upper.end, calls, ..lower });
        }
    }

    /// Adds a range in unused address space, if there is room.
    fn insert(&mut self, start: u64, range: Range) {
        if self.ranges.len() >= MAX_RANGES {
            match self.patience.checked_sub(1) {
                Some(left) => self.patience = left,
                None => self.join_all(),
            }
        }
        if self.ranges.len() < MAX_RANGES {
            self.ranges.insert(start, range);
        } else {
            self.left_out = self.left_out.plus(Amount { bytes: range.end - start, blocks: 1 });
        }
    }

    /// Joins all neighbours of the same stack.
    fn join_all(&mut self) {
        let before = self.ranges.len();
        let mut joined: Vec<(u64, Range)> = Vec::new();
        for (&start, &range) in &self.ranges {
            match joined.last_mut() {
                Some((_, last)) if last.end == start && last.slot == range.slot => {
                    last.end = range.end;
                    last.calls += range.calls;
                    last.since = last.since.min(range.since);
                }
                _ => joined.push((start, range)),
            }
        }
        self.joined |= joined.len() < before;
        self.patience = if joined.len() > MAX_RANGES - PATIENCE { PATIENCE } else { 0 };
        self.ranges = joined.into_iter().collect();
    }

    /// Removes `length` bytes at `address` from the ranges there, at that time.
    pub fn unmap(&mut self, address: u64, length: u64, now: Duration) {
        let Some(end) = end(address, length) else { return };
        let before = self.ranges.range(..address).next_back().map(|(&start, &range)| (start, range));
        if let Some((start, range)) = before.filter(|(_, range)| range.end > address) {
            self.ranges.insert(start, range.part(start, start, address));
            if range.end > end {
                self.insert(end, range.part(start, end, range.end));
            }
        }
        while let Some((&start, &range)) = self.ranges.range(address..end).next() {
            self.ranges.remove(&start);
            if range.end > end {
                self.insert(end, range.part(start, end, range.end));
                continue;
            }
            let calls = self.calls.entry(range.slot).or_default();
            if let Some(lived) = calls.lifetimes.get_mut(class_of(now.saturating_sub(range.since))) {
                *lived = lived.saturating_add(u32::try_from(range.calls).unwrap_or(u32::MAX));
            }
        }
    }

    /// The calls of the stack in a slot so far.
    #[must_use]
    pub fn calls(&self, slot: u32) -> Calls {
        self.calls.get(&slot).copied().unwrap_or_default()
    }

    /// The calls of every stack that ever mapped something, by slot.
    pub fn stacks(&self) -> impl Iterator<Item = (u32, Calls)> {
        self.calls.iter().map(|(&slot, &calls)| (slot, calls))
    }

    /// When each range was mapped, with the slot of its stack.
    pub fn births(&self) -> impl Iterator<Item = (u32, Duration)> {
        self.ranges.values().map(|range| (range.slot, range.since))
    }

    /// Bytes and number of ranges that did not fit, whether they are still mapped or not.
    #[must_use]
    pub fn left_out(&self) -> Amount {
        self.left_out
    }

    /// Whether ages may be too high, because neighbours of different times were joined.
    #[must_use]
    pub fn is_joined(&self) -> bool {
        self.joined
    }

    /// All ranges, by address, each with the slot of its stack, and how many calls mapped it. Neighbours may be of one stack.
    pub fn iter(&self) -> impl Iterator<Item = (std::ops::Range<u64>, u32, u64)> {
        self.ranges.iter().map(|(&start, range)| (start..range.end, range.slot, range.calls))
    }

    /// What each stack has mapped, by slot. Neighbours count as one range.
    #[must_use]
    pub fn by_stack(&self) -> FxHashMap<u32, Mapped> {
        let mut stacks: FxHashMap<u32, Mapped> = FxHashMap::default();
        let mut previous: Option<Range> = None;
        for (start, range) in &self.ranges {
            let goes_on = previous.is_some_and(|last| last.end == *start && last.slot == range.slot);
            let first = Mapped { since: range.since, ..Mapped::default() };
            let mapped = stacks.entry(range.slot).or_insert(first);
            mapped.amount.bytes += range.end - start;
            mapped.amount.blocks += u64::from(!goes_on);
            mapped.calls += range.calls;
            mapped.since = mapped.since.min(range.since);
            previous = Some(*range);
        }
        stacks
    }
}

/// The address after the last page; `None` for an empty or invalid range.
fn end(address: u64, length: u64) -> Option<u64> {
    let end = address.checked_add(length.checked_next_multiple_of(PAGE)?)?;
    (length != 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Calls, MAX_RANGES, PAGE, Ranges, class_of};
    use crate::profile::Amount;

    const NOW: Duration = Duration::from_secs(1);

    /// Ranges in pages: start, end, slot.
    fn listed(ranges: &Ranges) -> Vec<(u64, u64, u32)> {
        ranges.ranges.iter().map(|(start, range)| (start / PAGE, range.end / PAGE, range.slot)).collect()
    }

    fn with(mapped: &[(u64, u64, u32)]) -> Ranges {
        let mut ranges = Ranges::default();
        for &(start, pages, slot) in mapped {
            ranges.map(start * PAGE, pages * PAGE, slot, NOW);
        }
        ranges
    }

    #[test]
    fn a_hole_splits_a_range() {
        let mut ranges = with(&[(10, 10, 1)]);
        ranges.unmap(13 * PAGE, 2 * PAGE, 2 * NOW);
        assert_eq!(listed(&ranges), [(10, 13, 1), (15, 20, 1)]);
        let mapped = ranges.by_stack()[&1];
        assert_eq!((mapped.amount.bytes, mapped.amount.blocks, mapped.since), (8 * PAGE, 2, NOW));
    }

    #[test]
    fn what_was_mapped_by_several_calls_stays_so() {
        let mut ranges = with(&[(10, 2, 1), (12, 2, 1), (14, 2, 1), (16, 2, 1), (20, 3, 1)]);
        let calls = |ranges: &Ranges| ranges.iter().map(|(_, _, calls)| calls).collect::<Vec<_>>();
        assert_eq!(calls(&ranges), [4, 1]);
        ranges.unmap(12 * PAGE, 2 * PAGE, 2 * NOW);
        assert_eq!(calls(&ranges), [1, 2, 1]);
        ranges.unmap(20 * PAGE, PAGE, 2 * NOW);
        assert_eq!(calls(&ranges), [1, 2, 1]);
    }

    #[test]
    fn what_was_unmapped_is_remembered_by_age() {
        let mut ranges = with(&[(10, 10, 1), (30, 10, 1), (50, 10, 1)]);
        ranges.unmap(10 * PAGE, 5 * PAGE, 2 * NOW);
        ranges.unmap(30 * PAGE, 10 * PAGE, 2 * NOW);
        ranges.map(50 * PAGE, 10 * PAGE, 2, 9 * NOW);
        let Calls { mapped, lifetimes } = ranges.calls(1);
        let lived: Vec<usize> = (0..lifetimes.len()).filter(|&at| lifetimes[at] == 1).collect();
        assert_eq!(mapped, 3);
        assert_eq!(lived, [class_of(NOW), class_of(8 * NOW)]);
        assert_eq!(ranges.births().collect::<Vec<_>>(), [(1, NOW), (2, 9 * NOW)]);
    }

    #[test]
    fn ends_are_cut_and_whole_ranges_go() {
        let mut ranges = with(&[(10, 10, 1), (20, 10, 2), (30, 10, 3), (50, 1, 4)]);
        ranges.unmap(15 * PAGE, 20 * PAGE, 2 * NOW);
        assert_eq!(listed(&ranges), [(10, 15, 1), (35, 40, 3), (50, 51, 4)]);
        ranges.unmap(0, 1000 * PAGE, 2 * NOW);
        assert_eq!(listed(&ranges), []);
    }

    #[test]
    fn a_mapping_over_others_replaces_them() {
        let ranges = with(&[(10, 10, 1), (12, 3, 2)]);
        assert_eq!(listed(&ranges), [(10, 12, 1), (12, 15, 2), (15, 20, 1)]);
    }

    #[test]
    fn neighbours_of_one_stack_and_time_are_one() {
        let mut ranges = with(&[(10, 1, 1), (12, 1, 1), (11, 1, 1), (13, 1, 2)]);
        assert_eq!(listed(&ranges), [(10, 13, 1), (13, 14, 2)]);
        let later = 2 * NOW;
        ranges.map(9 * PAGE, PAGE, 1, later);
        assert_eq!(listed(&ranges), [(9, 10, 1), (10, 13, 1), (13, 14, 2)]);
        assert_eq!(ranges.by_stack()[&1].amount, Amount { bytes: 4 * PAGE, blocks: 1 });
        ranges.unmap(10 * PAGE, 3 * PAGE, 2 * NOW);
        assert_eq!(ranges.by_stack()[&1].since, later);
    }

    /// Like `sbrk` growing the heap by a few bytes repeatedly, for hours.
    #[test]
    fn a_heap_that_grows_is_bounded() {
        const STEPS: u64 = 300_000;
        let mut ranges = Ranges::default();
        let mut end = PAGE;
        for step in 0..STEPS {
            ranges.map(end, 16, 1, Duration::from_millis(4 * (step / 4)));
            end += 16;
            assert!(ranges.ranges.len() <= MAX_RANGES);
        }
        let mapped = ranges.by_stack()[&1];
        assert_eq!(mapped.amount, Amount { bytes: (STEPS - 1) * 16 + PAGE, blocks: 1 });
        assert_eq!((mapped.since, ranges.is_joined()), (Duration::ZERO, true));
        assert_eq!(ranges.left_out(), Amount::default());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let mut ranges = Ranges::default();
        let more = 20_000;
        for page in 0..(MAX_RANGES + more) as u64 {
            ranges.map(2 * page * PAGE, PAGE, 1, NOW);
        }
        assert_eq!(ranges.ranges.len(), MAX_RANGES);
        let left_out = Amount { bytes: more as u64 * PAGE, blocks: more as u64 };
        assert_eq!((ranges.left_out(), ranges.is_joined()), (left_out, false));
        // Unmapping makes room.
        ranges.unmap(0, 100 * PAGE, 2 * NOW);
        ranges.map(0, PAGE, 1, NOW);
        assert_eq!((ranges.left_out(), ranges.ranges.len()), (left_out, MAX_RANGES - 49));
    }

    #[test]
    fn lengths_are_whole_pages_and_nonsense_is_nothing() {
        let mut ranges = Ranges::default();
        ranges.map(PAGE, 1, 1, NOW);
        ranges.map(10 * PAGE, 0, 1, NOW);
        ranges.map(u64::MAX - 5, 100, 1, NOW);
        ranges.map(5 * PAGE, u64::MAX, 1, NOW);
        ranges.unmap(PAGE, 0, 2 * NOW);
        assert_eq!(listed(&ranges), [(1, 2, 1)]);
    }
}
