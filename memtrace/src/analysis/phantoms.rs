//! Domain: which of the objects that look outstanding are gone.
//!
//! The kernel announces most frees, but not all: bulk frees, frees after a grace period (`kfree_rcu`), from a CPU's cache.
//! Such an object stays outstanding here, a phantom, until its address is allocated again. Most are found by searching
//! their slabs. For slabs that cannot be searched, /proc/slabinfo gives the number: it counts
//! each cache's objects, however they were freed; tracked objects in excess of the cache's growth are phantoms.

/// What is known about one cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheEvidence {
    /// Tracked objects that look outstanding, without those that were found gone.
    pub tracked: u64,
    /// How many of them could not be looked up.
    pub unknown: u64,
    /// Tracked objects whose free was seen.
    pub freed: u64,
    /// Tracked objects whose free was not seen: their address was allocated again.
    pub missed: u64,
    /// Frees seen of objects that were not tracked.
    pub untracked_freed: u64,
    /// Allocations that were seen but excluded by a task filter.
    pub untracked_allocated: u64,
    /// Objects in use when tracing began, by /proc/slabinfo.
    pub before: u64,
    /// Objects in use now.
    pub now: u64,
}

/// The share of a cache's frees that may go unseen before the cache counts as blind, in percent.
const BLIND_PERCENT: u64 = 2;

impl CacheEvidence {
    /// Objects in use now beyond those when tracing began.
    #[must_use]
    pub fn grown(&self) -> i64 {
        i64::try_from(self.now).unwrap_or(i64::MAX).saturating_sub_unsigned(self.before)
    }

    /// Whether frees of this cache go unseen.
    #[must_use]
    pub fn is_blind(&self) -> bool {
        let ended = self.missed.saturating_add(self.freed);
        self.missed > 0 && self.missed.saturating_mul(100) >= ended.saturating_mul(BLIND_PERCENT)
    }

    /// How many of the objects that could not be looked up are phantoms.
    ///
    /// By events, the cache has grown by what is tracked, minus frees of older objects. If it has actually
    /// grown by less, the difference is unannounced frees. Those of older objects may be among them, and slabinfo
    /// counts free objects that CPUs cache as used: the difference is only meaningful if tracked objects are
    /// known to be freed unseen.
    ///
    /// With a task filter, objects of other tasks are part of the growth, and their unseen frees are part of the
    /// difference: there must be a difference both with and without them.
    #[must_use]
    pub fn phantoms(&self) -> u64 {
        let excess = |left_out: u64| {
            // More frees of other objects than such objects can have existed: the excess are objects whose allocation
            // was not announced.
            let others_freed = self.untracked_freed.min(self.before.saturating_add(left_out));
            i128::from(self.tracked) + i128::from(left_out)
                - i128::from(others_freed)
                - i128::from(self.grown())
        };
        let excess = excess(0).min(excess(self.untracked_allocated));
        if excess <= 0 || !self.is_blind() {
            return 0;
        }
        u64::try_from(excess).unwrap_or(u64::MAX).min(self.unknown)
    }
}

/// What is known about one stack of a cache.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackEvidence {
    /// Objects that look outstanding and could not be looked up.
    pub unknown: u64,
    /// Objects whose free was seen.
    pub freed: u64,
    /// Objects whose free was not seen.
    pub missed: u64,
}

impl StackEvidence {
    /// How likely its objects are freed unseen. A stack none of whose objects have been freed says little.
    fn blindness(&self) -> f64 {
        self.missed as f64 / (self.missed as f64 + self.freed as f64 + 1.0)
    }
}

/// Distributes a cache's phantoms over its stacks: those whose objects are known to be freed unseen. Returns each
/// stack's, in the order given; never more than it holds.
#[must_use]
pub fn share_out(phantoms: u64, stacks: &[StackEvidence]) -> Vec<u64> {
    let mut shares = vec![0; stacks.len()];
    let mut left = phantoms;
    // A stack that is full takes no part in the next round, so there are at most as many as stacks.
    for _ in 0..=stacks.len() {
        let weight = |stack: &StackEvidence, share: u64| {
            if stack.unknown > share { stack.blindness() * stack.unknown as f64 } else { 0.0 }
        };
        let all: f64 = stacks.iter().zip(&shares).map(|(stack, share)| weight(stack, *share)).sum();
        if left == 0 || all <= 0.0 {
            break;
        }
        let goal = left as f64;
        for (stack, share) in stacks.iter().zip(&mut shares) {
            let part = (goal * weight(stack, *share) / all).ceil() as u64;
            let part = part.min(left).min(stack.unknown - *share);
            *share += part;
            left -= part;
        }
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::{CacheEvidence, StackEvidence, share_out};

    /// Linux 6.18: 20,000 pairs of epoll ADD and DEL, whose items are freed by `kfree_rcu`.
    const EPOLL: CacheEvidence = CacheEvidence {
        tracked: 13_902,
        unknown: 13_902,
        freed: 0,
        missed: 6_098,
        untracked_freed: 0,
        untracked_allocated: 0,
        before: 352,
        now: 559,
    };

    #[test]
    fn what_the_cache_has_not_grown_by_is_phantoms() {
        assert_eq!(EPOLL.grown(), 207);
        assert_eq!(EPOLL.phantoms(), 13_902 - 207);
        assert_eq!(CacheEvidence { now: 300, ..EPOLL }.phantoms(), 13_902, "never more than is tracked");
    }

    #[test]
    fn a_leak_is_none() {
        let leak = CacheEvidence {
            tracked: 10_000,
            unknown: 10_000,
            before: 500,
            now: 10_400,
            ..CacheEvidence::default()
        };
        assert_eq!(leak.phantoms(), 0, "none of its frees is known to be unseen");
        let known = CacheEvidence { unknown: 0, now: 600, ..leak };
        assert_eq!(known.phantoms(), 0, "all were found in their slabs");
        let older_freed = CacheEvidence { untracked_freed: 400, now: 10_000, ..leak };
        assert_eq!(older_freed.phantoms(), 0, "frees of older objects made room");
    }

    #[test]
    fn frees_of_objects_whose_allocation_was_not_announced_say_nothing() {
        let network = CacheEvidence {
            tracked: 5_000,
            unknown: 5_000,
            missed: 1_000,
            untracked_freed: 1_000_000,
            before: 300,
            now: 350,
            ..CacheEvidence::default()
        };
        assert_eq!(network.phantoms(), 5_000 - 350);
    }

    #[test]
    fn what_others_free_unseen_is_not_held_against_those_traced() {
        let filtered = CacheEvidence {
            tracked: 5_000,
            unknown: 5_000,
            missed: 1_000,
            untracked_allocated: 70_000,
            before: 500,
            now: 6_000,
            ..CacheEvidence::default()
        };
        assert_eq!(filtered.phantoms(), 0, "the cache has grown by more than what is tracked");
        let others_grew_less = CacheEvidence { now: 700, ..filtered };
        assert_eq!(others_grew_less.phantoms(), 4_800);
        let others_freed = CacheEvidence { untracked_freed: 70_000, before: 9_000, now: 14_000, ..filtered };
        assert_eq!(others_freed.phantoms(), 0);
    }

    #[test]
    fn stacks_known_to_be_freed_unseen_take_the_phantoms() {
        let leak = StackEvidence { unknown: 10_000, freed: 0, missed: 0 };
        let churn = StackEvidence { unknown: 13_902, freed: 0, missed: 6_098 };
        assert_eq!(share_out(13_695, &[leak, churn]), [0, 13_695]);
        assert_eq!(share_out(14_000, &[leak, churn]), [0, 13_902], "no more than there is");
        assert_eq!(share_out(0, &[leak, churn]), [0, 0]);
        let other = StackEvidence { unknown: 13_902, freed: 6_098, missed: 6_098 };
        assert_eq!(share_out(300, &[churn, other]), [200, 100]);
    }
}
