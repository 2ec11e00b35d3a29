//! Domain: the figures of each stack, report after report. Pure: no I/O, no clock.

mod estimate;
mod history;
mod living;
mod ranges;
mod seen;
mod tracks;

use std::time::Duration;

pub use estimate::Estimate;
pub use history::History;
pub use living::{Born, Census, Living, PARTS};
pub use ranges::{Calls, Mapped, Ranges};
pub use seen::SeenClock;
pub use tracks::{Ascent, Held, Times, Tracks};

use rustc_hash::FxHashMap;

use crate::profile::{Age, Amount, Uncertainty};

/// A stack's totals at one point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Totals {
    /// Slot of the stack in the kernel side's table.
    pub slot: u32,
    /// Hash of its frames.
    pub id: u64,
    /// Its target and generation.
    pub target: u32,
    /// Allocated since the start.
    pub allocated: Amount,
    /// Freed of that.
    pub freed: Amount,
    /// Age of the oldest block, or a bound on it.
    pub oldest: Age,
}

impl Totals {
    /// What is not freed.
    #[must_use]
    pub fn outstanding(&self) -> Amount {
        self.allocated.minus(self.freed)
    }
}

/// Joins totals with the same slot.
pub fn join(stacks: impl IntoIterator<Item = Totals>) -> Vec<Totals> {
    let mut joined: Vec<Totals> = Vec::new();
    let mut places: FxHashMap<u32, usize> = FxHashMap::default();
    for stack in stacks {
        let place = *places.entry(stack.slot).or_insert(joined.len());
        match joined.get_mut(place) {
            None => joined.push(stack),
            Some(known) => {
                let holds = |totals: &Totals| totals.outstanding().blocks > 0;
                known.oldest = match (holds(known), holds(&stack)) {
                    (true, true) => Age {
                        age: known.oldest.age.max(stack.oldest.age),
                        exact: known.oldest.exact && stack.oldest.exact,
                    },
                    (false, true) => stack.oldest,
                    _ => known.oldest,
                };
                known.allocated = known.allocated.plus(stack.allocated);
                known.freed = known.freed.plus(stack.freed);
            }
        }
    }
    joined
}

/// The sum of a stack's live blocks that pass a filter.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Survivors {
    /// Their bytes and number.
    pub estimate: Estimate,
    /// Age of the oldest.
    pub oldest: Duration,
}

/// A stack with its changes since the previous report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// The totals.
    pub totals: Totals,
    /// Outstanding, after filters.
    pub outstanding: Amount,
    /// Its error, if blocks were examined.
    pub uncertainty: Option<Uncertainty>,
    /// Growth of the outstanding bytes, per second.
    pub bytes_per_second: f64,
}

/// Stores the last reports, for rates.
#[derive(Clone, Debug, Default)]
pub struct Aggregate {
    history: History<u64>,
}

impl Aggregate {
    /// Nothing is outstanding now of what is counted from here on: the next report's rates count from this time.
    pub fn begin(&mut self, now: Duration) {
        self.history.begin(now);
    }

    /// Turns the current totals into growth since the last report. `survivors`, if given, replaces the
    /// outstanding amounts by those of blocks that passed a filter (`--older`), by slot.
    ///
    /// Returns the stacks that hold something, with `freed` the others too, and the growth of all together in bytes per
    /// second.
    pub fn advance(
        &mut self,
        now: Duration,
        stacks: impl IntoIterator<Item = Totals>,
        survivors: Option<&FxHashMap<u32, Survivors>>,
        freed: bool,
    ) -> (Vec<Growth>, f64) {
        let mut grown = Vec::new();
        for mut totals in stacks {
            let mut outstanding = totals.outstanding();
            let mut uncertainty = None;
            if let Some(survivors) = survivors {
                let survivor = survivors.get(&totals.slot).copied().unwrap_or_default();
                outstanding = survivor.estimate.amount();
                uncertainty = Some(survivor.estimate.uncertainty());
                totals.oldest = Age { age: survivor.oldest, exact: true };
            }
            if outstanding.blocks == 0 && !freed {
                continue;
            }
            grown.push(Growth { totals, outstanding, uncertainty, bytes_per_second: 0.0 });
        }
        let held = grown.iter().map(|stack| (stack.totals.id, stack.outstanding));
        let (rates, all) = self.history.advance(now, held);
        for (stack, rate) in grown.iter_mut().zip(rates) {
            stack.bytes_per_second = rate.bytes;
        }
        (grown, all.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use memtrace_common::Sample;
    use rustc_hash::FxHashMap;

    use super::{Aggregate, Estimate, Survivors, Totals, join};
    use crate::profile::{Age, Amount};

    fn totals(id: u64, allocated: u64, freed: u64) -> Totals {
        Totals {
            slot: id as u32,
            id,
            target: 0,
            allocated: Amount { bytes: allocated * 10, blocks: allocated },
            freed: Amount { bytes: freed * 10, blocks: freed },
            oldest: Age { age: Duration::from_secs(9), exact: false },
        }
    }

    #[test]
    fn rates_are_since_the_previous_report() {
        let mut aggregate = Aggregate::default();
        let (first, all) =
            aggregate.advance(Duration::from_secs(2), [totals(1, 10, 2), totals(2, 3, 3)], None, false);
        assert_eq!(first.len(), 1, "a stack that freed everything is not outstanding");
        assert_eq!((first[0].outstanding.bytes, first[0].bytes_per_second, all), (80, 40.0, 40.0));
        let (second, all) = aggregate.advance(Duration::from_secs(4), [totals(1, 10, 6)], None, false);
        assert_eq!((second[0].bytes_per_second, all), (-20.0, -20.0));
    }

    #[test]
    fn totals_of_one_stack_are_joined() {
        let aged = |totals: Totals, seconds, exact| Totals {
            oldest: Age { age: Duration::from_secs(seconds), exact },
            ..totals
        };
        let stacks = [
            aged(totals(1, 10, 2), 5, true),
            totals(2, 1, 0),
            aged(totals(1, 4, 1), 9, true),
            aged(totals(1, 6, 6), 99, false),
        ];
        let joined = join(stacks);
        assert_eq!(joined.len(), 2);
        assert_eq!(
            (joined[0].outstanding().blocks, joined[0].allocated.blocks, joined[0].freed.bytes),
            (11, 20, 90)
        );
        assert_eq!(joined[0].oldest, Age { age: Duration::from_secs(9), exact: true });
    }

    #[test]
    fn a_filter_replaces_what_is_outstanding() {
        let mut survivors = FxHashMap::default();
        let mut estimate = Estimate::default();
        estimate.add(Sample::new(10, 0));
        survivors.insert(1, Survivors { estimate, oldest: Duration::from_secs(7) });
        let stacks = [totals(1, 10, 2), totals(2, 5, 0)];
        let (grown, _) =
            Aggregate::default().advance(Duration::from_secs(1), stacks, Some(&survivors), false);
        assert_eq!(grown.len(), 1);
        assert_eq!(grown[0].outstanding, Amount { bytes: 10, blocks: 1 });
        assert_eq!(grown[0].totals.oldest, Age { age: Duration::from_secs(7), exact: true });
    }

    #[test]
    fn stacks_that_hold_nothing_are_left_out_unless_asked_for() {
        let stacks = [totals(1, 10, 10), totals(2, 3, 2)];
        let ids = |freed| {
            let (grown, _) = Aggregate::default().advance(Duration::from_secs(1), stacks, None, freed);
            grown.iter().map(|stack| stack.totals.id).collect::<Vec<_>>()
        };
        assert_eq!((ids(false), ids(true)), (vec![2], vec![1, 2]));
    }
}
