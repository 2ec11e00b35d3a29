//! What was outstanding at the last two reports, for rates.

use std::{hash::Hash, time::Duration};

use rustc_hash::FxHashMap;

use crate::profile::Amount;

/// Shorter intervals say nothing about a second: rates are computed over at least this time.
const SHORTEST: Duration = Duration::from_millis(100);

/// A report this soon after another says nothing about growth since.
const MOMENT: Duration = Duration::from_secs(1);

/// Growth per second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    /// In bytes.
    pub bytes: f64,
    /// In blocks.
    pub blocks: f64,
}

/// Stores the last two reports.
#[derive(Clone, Debug)]
pub struct History<K> {
    previous: Report<K>,
    /// The one before, if there was one.
    earlier: Option<Report<K>>,
}

#[derive(Clone, Debug)]
struct Report<K> {
    time: Duration,
    held: FxHashMap<K, Amount>,
    all: Amount,
}

impl<K> Report<K> {
    fn at(time: Duration) -> Self {
        Self { time, held: FxHashMap::default(), all: Amount::default() }
    }
}

impl<K> Default for History<K> {
    fn default() -> Self {
        Self { previous: Report::at(Duration::ZERO), earlier: None }
    }
}

impl<K: Eq + Hash> History<K> {
    /// Nothing is outstanding now of what is counted from here on: the next report's rates count from this time.
    pub fn begin(&mut self, now: Duration) {
        *self = Self { previous: Report::at(now), earlier: None };
    }

    /// Records what is outstanding now. Returns how fast each has grown, in the order given, and all together.
    pub fn advance(
        &mut self,
        now: Duration,
        rows: impl IntoIterator<Item = (K, Amount)>,
    ) -> (Vec<Rate>, Rate) {
        let base = self.base(now);
        let seconds = now.saturating_sub(base.time).max(SHORTEST).as_secs_f64();
        let rate = |now: Amount, before: Amount| Rate {
            bytes: (now.bytes as f64 - before.bytes as f64) / seconds,
            blocks: (now.blocks as f64 - before.blocks as f64) / seconds,
        };
        let mut current = Report::at(now);
        let rates = rows
            .into_iter()
            .map(|(key, amount)| {
                let before = base.held.get(&key).copied().unwrap_or_default();
                current.held.insert(key, amount);
                current.all = current.all.plus(amount);
                rate(amount, before)
            })
            .collect();
        let all = rate(current.all, base.all);
        self.earlier = Some(std::mem::replace(&mut self.previous, current));
        (rates, all)
    }

    /// What rates are computed from: the previous report, or the one before if that was very recent, as a last report may
    /// follow right after another.
    fn base(&self, now: Duration) -> &Report<K> {
        let since = now.saturating_sub(self.previous.time);
        self.earlier
            .as_ref()
            .filter(|earlier| since < MOMENT.min(self.previous.time.saturating_sub(earlier.time) / 2))
            .unwrap_or(&self.previous)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{History, Rate};
    use crate::profile::Amount;

    #[test]
    fn rates_are_since_the_previous_report() {
        let mut history = History::default();
        history.begin(Duration::from_secs(1));
        let amount = |blocks| Amount { bytes: blocks * 10, blocks };
        let per_second = |blocks: f64| Rate { bytes: blocks * 10.0, blocks };
        let (rates, all) = history.advance(Duration::from_secs(3), [("a", amount(8)), ("b", amount(2))]);
        assert_eq!((rates, all), (vec![per_second(4.0), per_second(1.0)], per_second(5.0)));
        let (rates, all) = history.advance(Duration::from_secs(5), [("a", amount(4))]);
        assert_eq!((rates, all), (vec![per_second(-2.0)], per_second(-3.0)));
    }

    #[test]
    fn what_is_counted_anew_begins_with_nothing() {
        let mut history = History::default();
        history.begin(Duration::from_secs(1));
        let amount = |blocks| Amount { bytes: blocks * 10, blocks };
        history.advance(Duration::from_secs(3), [("a", amount(100))]);
        history.begin(Duration::from_secs(5));
        let (rates, all) = history.advance(Duration::from_secs(7), [("a", amount(4))]);
        assert_eq!((rates, all.bytes), (vec![Rate { bytes: 20.0, blocks: 2.0 }], 20.0));
    }

    #[test]
    fn of_a_report_right_behind_another_they_count_from_the_one_before() {
        let mut history = History::default();
        history.begin(Duration::from_secs(1));
        let amount = |blocks| Amount { bytes: blocks * 10, blocks };
        for (second, blocks) in [(2, 10), (4, 30), (6, 50)] {
            history.advance(Duration::from_secs(second), [("a", amount(blocks))]);
        }
        let (rates, all) = history.advance(Duration::from_millis(6_010), [("a", amount(50))]);
        assert!((all.bytes - 200.0 / 2.01).abs() < 1e-9, "{all:?}");
        assert_eq!(rates, [all]);
    }
}
