//! Address ranges that a target mapped, and by which stack: what later calls cut, split and replace.

use std::{collections::BTreeMap, time::Duration};

use rustc_hash::FxHashMap;

use crate::model::Amount;

/// Pages are mapped whole.
const PAGE: u64 = 4096;

/// A mapped range, from its key on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    end: u64,
    slot: u32,
    since: Duration,
}

/// What one stack has mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mapped {
    /// Bytes, and ranges.
    pub amount: Amount,
    /// When the oldest of them was mapped, since the start of tracing.
    pub since: Duration,
}

/// The ranges of one process, by address; they never overlap.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    ranges: BTreeMap<u64, Range>,
}

impl Ranges {
    /// Adds `length` bytes at `address`, mapped by the stack in `slot`. What was there is replaced.
    pub fn map(&mut self, address: u64, length: u64, slot: u32, since: Duration) {
        let Some(end) = end(address, length) else { return };
        self.unmap(address, length);
        self.ranges.insert(address, Range { end, slot, since });
    }

    /// Takes `length` bytes at `address` out of whatever lies there.
    pub fn unmap(&mut self, address: u64, length: u64) {
        let Some(end) = end(address, length) else { return };
        let before = self.ranges.range(..address).next_back().map(|(&start, &range)| (start, range));
        if let Some((start, range)) = before.filter(|(_, range)| range.end > address) {
            self.ranges.insert(start, Range { end: address, ..range });
            if range.end > end {
                self.ranges.insert(end, range);
            }
        }
        while let Some((&start, &range)) = self.ranges.range(address..end).next() {
            self.ranges.remove(&start);
            if range.end > end {
                self.ranges.insert(end, range);
            }
        }
    }

    /// Forgets everything: `execve`.
    pub fn clear(&mut self) {
        self.ranges.clear();
    }

    /// What each stack has mapped, by slot.
    #[must_use]
    pub fn by_stack(&self) -> FxHashMap<u32, Mapped> {
        let mut stacks: FxHashMap<u32, Mapped> = FxHashMap::default();
        for (start, range) in &self.ranges {
            let first = Mapped { since: range.since, ..Mapped::default() };
            let mapped = stacks.entry(range.slot).or_insert(first);
            mapped.amount.bytes += range.end - start;
            mapped.amount.blocks += 1;
            mapped.since = mapped.since.min(range.since);
        }
        stacks
    }
}

/// The address after the last page; `None` for an empty range, or one that is none.
fn end(address: u64, length: u64) -> Option<u64> {
    let end = address.checked_add(length.checked_next_multiple_of(PAGE)?)?;
    (length != 0).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{PAGE, Ranges};

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
        ranges.unmap(13 * PAGE, 2 * PAGE);
        assert_eq!(listed(&ranges), [(10, 13, 1), (15, 20, 1)]);
        let mapped = ranges.by_stack()[&1];
        assert_eq!((mapped.amount.bytes, mapped.amount.blocks, mapped.since), (8 * PAGE, 2, NOW));
    }

    #[test]
    fn ends_are_cut_and_whole_ranges_go() {
        let mut ranges = with(&[(10, 10, 1), (20, 10, 2), (30, 10, 3), (50, 1, 4)]);
        ranges.unmap(15 * PAGE, 20 * PAGE);
        assert_eq!(listed(&ranges), [(10, 15, 1), (35, 40, 3), (50, 51, 4)]);
        ranges.unmap(0, 1000 * PAGE);
        assert_eq!(listed(&ranges), []);
    }

    #[test]
    fn a_mapping_over_others_replaces_them() {
        let ranges = with(&[(10, 10, 1), (12, 3, 2)]);
        assert_eq!(listed(&ranges), [(10, 12, 1), (12, 15, 2), (15, 20, 1)]);
    }

    #[test]
    fn lengths_are_whole_pages_and_nonsense_is_nothing() {
        let mut ranges = Ranges::default();
        ranges.map(PAGE, 1, 1, NOW);
        ranges.map(10 * PAGE, 0, 1, NOW);
        ranges.map(u64::MAX - 5, 100, 1, NOW);
        ranges.map(5 * PAGE, u64::MAX, 1, NOW);
        ranges.unmap(PAGE, 0);
        assert_eq!(listed(&ranges), [(1, 2, 1)]);
    }
}
