//! The blocks of a process that have been decided on: which are lost.

use std::{ops::Range, time::Duration};

use memtrace_common::BLOCK_UNIT;
use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    bpf::Live,
    profile::{Amount, Leaked, Reached},
};

/// The most lost blocks that are remembered, at about 40 bytes each.
const MAX_LOST: usize = 2_000_000;
/// The most windows that are remembered.
const MAX_SPANS: usize = 100_000;

/// A block that nothing points to.
#[derive(Clone, Copy, Debug)]
struct Lost {
    /// When it was allocated.
    time: Duration,
    /// Slot of its stack.
    slot: u32,
    indirectly: bool,
    /// Bytes that are lost through it.
    through: u64,
    /// Whether it was there in the count that is under way.
    seen: bool,
}

/// What leak checks have decided about the blocks of one program of a process.
#[derive(Default)]
pub(super) struct Decided {
    /// Blocks allocated at these times were looked at, in order. Several with windows.
    spans: Vec<Range<Duration>>,
    lost: FxHashMap<u64, Lost>,
    /// Stacks of blocks that were thought lost and freed later: something holds their blocks that no scan finds.
    distrusted: FxHashSet<u32>,
    /// How many such blocks there were.
    freed_later: u64,
}

/// How a scan says that a block can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// By its beginning.
    Reachable,
    /// By its middle only.
    Possibly,
    /// Not in any scan. `through`: bytes that are lost because it is.
    Lost { indirectly: bool, through: u64 },
}

/// A sum over the live blocks of a process.
#[derive(Clone, Debug, Default)]
pub(super) struct Count {
    /// By slot of the stack.
    pub(super) stacks: FxHashMap<u32, Leaked>,
    pub(super) reached: Reached,
    pub(super) undecided: u64,
    /// Of a block that is undecided: parts of blocks, with samples.
    parts: u64,
    /// Blocks that were thought lost and are gone, since tracing began.
    pub(super) freed_later: u64,
}

impl Decided {
    /// From now on, blocks allocated at these times are decided on as well.
    pub(super) fn extend(&mut self, span: Range<Duration>) {
        if span.is_empty() {
            return;
        }
        let room = self.spans.len() < MAX_SPANS;
        match self.spans.last_mut() {
            Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
            _ if room => self.spans.push(span),
            _ => {}
        }
    }

    /// Whether a block of that time is decided on.
    fn covers(&self, time: Duration) -> bool {
        let place = self.spans.partition_point(|span| span.end <= time);
        self.spans.get(place).is_some_and(|span| span.contains(&time))
    }

    /// Adds a live block to a count. `found`: what the scans that were just made say of it, if they have looked at it. Where
    /// pointers move, scans may all have missed a block that a later one reaches: it is not lost.
    pub(super) fn add(&mut self, count: &mut Count, block: &Live, found: Option<Found>) {
        let amount = Amount { bytes: block.sample.bytes(), blocks: block.sample.blocks() };
        if !self.covers(block.time) {
            count.parts += amount.blocks;
            return;
        }
        let room = self.lost.len() < MAX_LOST;
        if matches!(found, Some(Found::Reachable | Found::Possibly))
            && self.lost.get(&block.address).is_some_and(|lost| lost.time == block.time)
        {
            self.lost.remove(&block.address);
        }
        let known = self.lost.get_mut(&block.address).filter(|lost| lost.time == block.time);
        let found = match (known, found) {
            (Some(lost), found) => {
                lost.seen = true;
                if let Some(Found::Lost { indirectly, through }) = found {
                    (lost.indirectly, lost.through) = (indirectly, through);
                }
                Found::Lost { indirectly: lost.indirectly, through: lost.through }
            }
            (None, Some(Found::Lost { indirectly, through })) if room => {
                let lost = Lost { time: block.time, slot: block.slot, indirectly, through, seen: true };
                self.lost.insert(block.address, lost);
                Found::Lost { indirectly, through }
            }
            (None, found) => found.unwrap_or(Found::Reachable),
        };
        let found = if self.distrusted.contains(&block.slot) { Found::Reachable } else { found };
        let stack = count.stacks.entry(block.slot).or_default();
        stack.checked += amount.blocks;
        let sum = match found {
            Found::Reachable => &mut count.reached.reachable,
            Found::Possibly => {
                stack.possibly = stack.possibly.plus(amount);
                &mut count.reached.possibly
            }
            Found::Lost { indirectly, through } => {
                stack.lost = stack.lost.plus(amount);
                stack.through = stack.through.saturating_add(through);
                if indirectly {
                    stack.indirectly = stack.indirectly.plus(amount);
                    &mut count.reached.indirectly
                } else {
                    &mut count.reached.directly
                }
            }
        };
        *sum = sum.plus(amount);
    }

    /// A count is complete: every live block was added. Lost blocks that were not among them have been freed, so they were
    /// not lost: their stacks are not believed any more.
    pub(super) fn finish(&mut self, count: &mut Count) {
        let distrusted = &mut self.distrusted;
        let mut gone = 0;
        self.lost.retain(|_, lost| {
            if !lost.seen {
                distrusted.insert(lost.slot);
                gone += 1;
            }
            std::mem::take(&mut lost.seen)
        });
        self.freed_later += gone;
        count.freed_later = self.freed_later;
        for (slot, stack) in &mut count.stacks {
            if self.distrusted.contains(slot) {
                count.reached.directly = count.reached.directly.minus(stack.lost.minus(stack.indirectly));
                count.reached.indirectly = count.reached.indirectly.minus(stack.indirectly);
                count.reached.reachable = count.reached.reachable.plus(stack.lost);
                *stack = Leaked { checked: stack.checked, possibly: stack.possibly, ..Leaked::default() };
            }
            stack.checked = whole(stack.checked);
            round(&mut stack.lost);
            round(&mut stack.indirectly);
            round(&mut stack.possibly);
        }
        let Reached { reachable, possibly, directly, indirectly, .. } = &mut count.reached;
        [reachable, possibly, directly, indirectly].into_iter().for_each(round);
        count.undecided = whole(count.parts);
    }
}

/// From parts of blocks to blocks.
fn whole(parts: u64) -> u64 {
    (parts + BLOCK_UNIT / 2) / BLOCK_UNIT
}

fn round(amount: &mut Amount) {
    amount.blocks = whole(amount.blocks);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memtrace_common::Sample;

    use super::{Count, Decided, Found};
    use crate::bpf::Live;

    fn block(address: u64, slot: u32, second: u64) -> Live {
        Live { address, sample: Sample::new(100, 0), slot, time: Duration::from_secs(second) }
    }

    fn count(decided: &mut Decided, blocks: &[(Live, Option<Found>)]) -> Count {
        let mut count = Count::default();
        blocks.iter().for_each(|(block, found)| decided.add(&mut count, block, *found));
        decided.finish(&mut count);
        count
    }

    const LOST: Option<Found> = Some(Found::Lost { indirectly: false, through: 0 });

    #[test]
    fn what_is_lost_stays_lost_until_it_is_freed() {
        let mut decided = Decided::default();
        decided.extend(Duration::ZERO..Duration::from_secs(10));
        let first = count(
            &mut decided,
            &[
                (block(16, 1, 2), LOST),
                (block(32, 1, 3), Some(Found::Lost { indirectly: true, through: 0 })),
                (block(48, 2, 3), Some(Found::Possibly)),
                (block(64, 2, 12), None),
            ],
        );
        let stack = first.stacks[&1];
        assert_eq!(
            (stack.checked, stack.lost.blocks, stack.lost.bytes, stack.indirectly.blocks),
            (2, 2, 200, 1)
        );
        assert_eq!((first.reached.directly.blocks, first.reached.indirectly.blocks), (1, 1));
        assert_eq!((first.reached.possibly.blocks, first.undecided), (1, 1));
        assert_eq!(
            (first.stacks[&1].possibly.blocks, first.stacks[&2].possibly),
            (0, first.reached.possibly)
        );
        // A later count without scans.
        let second = count(&mut decided, &[(block(16, 1, 2), None), (block(32, 1, 3), None)]);
        assert_eq!((second.stacks[&1].lost.blocks, second.freed_later), (2, 0));
        // One of them is freed: none of that stack is believed any more.
        let third = count(&mut decided, &[(block(16, 1, 2), None), (block(80, 3, 4), LOST)]);
        assert_eq!((third.stacks[&1].lost.blocks, third.stacks[&1].checked, third.freed_later), (0, 1, 1));
        assert_eq!((third.stacks[&3].lost.blocks, third.reached.directly.blocks), (1, 1));
        let fourth = count(&mut decided, &[(block(16, 1, 2), LOST), (block(80, 3, 4), LOST)]);
        assert_eq!((fourth.stacks[&1].lost.blocks, fourth.reached.directly.blocks), (0, 1));
    }

    #[test]
    fn what_is_reached_later_is_not_lost() {
        let mut decided = Decided::default();
        decided.extend(Duration::ZERO..Duration::from_secs(10));
        count(&mut decided, &[(block(16, 1, 2), LOST), (block(32, 1, 2), LOST)]);
        let reached = Some(Found::Reachable);
        let second = count(&mut decided, &[(block(16, 1, 2), reached), (block(32, 1, 2), None)]);
        assert_eq!((second.stacks[&1].lost.blocks, second.freed_later), (1, 0));
        // Nothing is concluded from its free.
        assert_eq!(count(&mut decided, &[(block(32, 1, 2), None)]).stacks[&1].lost.blocks, 1);
    }

    #[test]
    fn another_block_at_the_address_is_another_one() {
        let mut decided = Decided::default();
        decided.extend(Duration::ZERO..Duration::from_secs(10));
        count(&mut decided, &[(block(16, 1, 2), LOST)]);
        let second = count(&mut decided, &[(block(16, 2, 5), None)]);
        assert_eq!((second.stacks[&2].lost.blocks, second.freed_later), (0, 1));
    }

    #[test]
    fn blocks_of_other_windows_are_undecided() {
        let mut decided = Decided::default();
        for second in [1, 5, 9] {
            decided.extend(Duration::from_secs(second)..Duration::from_secs(second + 1));
        }
        let blocks: Vec<_> = (0..12).map(|second| (block(16 * second, 1, second), None)).collect();
        let count = count(&mut decided, &blocks);
        assert_eq!((count.stacks[&1].checked, count.undecided), (3, 9));
    }
}
