//! Domain: which stacks matter, in which order. Pure: no I/O, no clock.

mod phantoms;

use std::cmp::Reverse;

pub use phantoms::{CacheEvidence, StackEvidence, share_out};

use crate::aggregate::Growth;

/// What the stacks are ordered by, largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortBy {
    /// Outstanding bytes.
    #[default]
    Bytes,
    /// Outstanding blocks.
    Blocks,
    /// Growth of the outstanding bytes.
    Rate,
    /// Age of the oldest block.
    Age,
}

/// Orders stacks; equal ones by bytes, then by id, so that two reports of the same counts agree.
pub fn rank(stacks: &mut [Growth], by: SortBy) {
    stacks.sort_by(|a, b| {
        let first = match by {
            SortBy::Bytes => Reverse(a.outstanding.bytes).cmp(&Reverse(b.outstanding.bytes)),
            SortBy::Blocks => Reverse(a.outstanding.blocks).cmp(&Reverse(b.outstanding.blocks)),
            SortBy::Rate => b.bytes_per_second.total_cmp(&a.bytes_per_second),
            SortBy::Age => Reverse(a.totals.oldest.age).cmp(&Reverse(b.totals.oldest.age)),
        };
        first
            .then(Reverse(a.outstanding.bytes).cmp(&Reverse(b.outstanding.bytes)))
            .then(a.totals.id.cmp(&b.totals.id))
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SortBy, rank};
    use crate::{
        aggregate::{Growth, Totals},
        model::{Age, Amount},
    };

    fn stack(id: u64, bytes: u64, blocks: u64, rate: f64, age: u64) -> Growth {
        let amount = Amount { bytes, blocks };
        Growth {
            totals: Totals {
                slot: 0,
                id,
                target: 0,
                allocated: amount,
                freed: Amount::default(),
                oldest: Age { age: Duration::from_secs(age), exact: true },
            },
            outstanding: amount,
            uncertainty: None,
            bytes_per_second: rate,
        }
    }

    #[test]
    fn each_order_puts_its_largest_first() {
        let stacks = [stack(1, 10, 3, 0.5, 1), stack(2, 20, 1, -2.0, 2), stack(3, 10, 2, 7.0, 3)];
        let ids = |by| {
            let mut sorted = stacks;
            rank(&mut sorted, by);
            sorted.map(|stack| stack.totals.id)
        };
        assert_eq!(ids(SortBy::Bytes), [2, 1, 3]);
        assert_eq!(ids(SortBy::Blocks), [1, 3, 2]);
        assert_eq!(ids(SortBy::Rate), [3, 1, 2]);
        assert_eq!(ids(SortBy::Age), [3, 2, 1]);
    }
}
