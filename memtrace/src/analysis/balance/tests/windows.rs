//! Balances of processes that are traced in windows.

use std::time::Duration;

use super::{MB, anon, blocks, traced};
use crate::{
    analysis::balance::{Circumstances, Sample},
    profile::{Knowledge, Standing},
};

#[test]
fn windows_bound_blocks_by_the_growth() {
    let of = Circumstances { knowledge: Knowledge::AtMost, ..Circumstances::default() };
    let found = traced(60, &of, |second| Sample {
        resident: anon(second * MB),
        // One hundredth of the time is seen, and twice as much survives a window as stays.
        seen: Duration::from_millis(10 * second + 1),
        blocks: blocks(second * MB / 50),
        ..Sample::default()
    });
    assert_eq!(found.standing, Standing::Leak, "{found:?}");
    assert!(found.rate.blocks <= found.rate.total && found.rate.blocks > 0.9 * found.rate.total, "{found:?}");
}

#[test]
fn what_is_allocated_in_a_gap_and_not_freed_is_not_kept_by_the_allocator() {
    // Most of a burst fell into a gap.
    let burst = |second| Sample {
        resident: anon(if second < 10 { MB } else { 47 * MB }),
        seen: Duration::from_secs(if second < 10 { second } else { 10 + (second - 10) / 2 }),
        blocks: blocks(if second < 10 { 0 } else { 8 * MB }),
        ..Sample::default()
    };
    let of = |freed_part, kept_last| {
        let heap_grown = Some(45 << 20);
        let knowledge = Knowledge::AtMost;
        Circumstances { knowledge, heap_grown, freed_part, kept_last, ..Circumstances::default() }
    };
    let parts = |of: &Circumstances| {
        let found = traced(40, of, burst);
        let last = found.weights.last().unwrap().grown;
        assert!((last.blocks - found.grown.blocks).abs() < MB as f64, "{found:?}");
        (found.standing, (found.grown.blocks / MB as f64).round(), (found.grown.kept / MB as f64).round())
    };
    let second = Duration::from_secs;
    assert_eq!(parts(&of(Some(0.01), None)), (Standing::NoLeak, 45.0, 1.0));
    // It frees as much as it allocates: the allocator may keep it.
    let (standing, blocks, _) = parts(&of(Some(1.0), None));
    assert!(standing == Standing::KeptByAllocator && blocks < 16.0, "{standing:?} {blocks}");
    // What the allocator's lists say counts more, while it is not too old.
    assert_eq!(parts(&of(Some(1.0), Some((second(30), 2 * MB)))).1, 43.0);
    assert_eq!(parts(&of(Some(0.0), Some((second(30), 40 * MB)))).0, Standing::KeptByAllocator);
    assert_eq!(parts(&of(Some(0.0), Some((second(5), 40 * MB)))).1, 45.0);
    // What is no heap of glibc's is not told apart.
    let other = Circumstances { heap_is_anonymous: true, ..of(Some(0.0), None) };
    assert!(parts(&other).1 < 16.0);
}

/// What windows have seen is a part of what blocks have grown by.
#[test]
fn what_was_left_is_compared_with_what_was_seen() {
    let windows = |left| Circumstances {
        ended: Some(blocks(left)),
        knowledge: Knowledge::AtMost,
        ..Circumstances::default()
    };
    let growing = |second: u64| Sample {
        resident: anon(second * MB),
        seen: Duration::from_millis(100 * second),
        blocks: blocks(second * MB / 10),
        ..Sample::default()
    };
    assert_eq!(traced(20, &windows(2 * MB), growing).standing, Standing::Leak);
    assert_eq!(traced(20, &windows(MB / 2), growing).standing, Standing::NoLeak);
}
