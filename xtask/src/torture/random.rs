//! Numbers that a seed determines: the same on every machine and in every version.

use std::ops::Range;

/// `SplitMix64`.
pub(super) struct Random(u64);

impl Random {
    /// The numbers of one round.
    pub(super) fn of(seed: u64, round: u64) -> Self {
        let mut of_seed = Self(seed);
        Self(of_seed.next() ^ round.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of a range; its start if it is empty.
    pub(super) fn within(&mut self, range: Range<u64>) -> u64 {
        let length = range.end.saturating_sub(range.start).max(1);
        range.start + self.next() % length
    }

    /// True in so many of a hundred cases.
    pub(super) fn percent(&mut self, percent: u64) -> bool {
        self.within(0..100) < percent
    }

    /// One of some.
    pub(super) fn of_all<T: Copy>(&mut self, all: &[T]) -> Option<T> {
        all.get(self.within(0..all.len() as u64) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(seed: u64, round: u64) -> Vec<u64> {
        let mut random = Random::of(seed, round);
        (0..4).map(|_| random.within(10..1000)).collect()
    }

    #[test]
    fn seed_and_round_determine_the_numbers() {
        assert_eq!(numbers(1, 7), numbers(1, 7));
        assert_ne!(numbers(1, 7), numbers(1, 8));
        assert_ne!(numbers(1, 7), numbers(2, 7));
        assert!(numbers(3, 0).iter().all(|number| (10..1000).contains(number)));
        assert_eq!(Random::of(1, 1).of_all::<u8>(&[]), None);
    }
}
