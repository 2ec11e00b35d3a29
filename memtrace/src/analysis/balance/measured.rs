//! What an allocator's blocks take, as the allocator's own lists say: where only windows were watched, this is known and not
//! inferred.

use std::time::Duration;

use super::{Sample, span_of};
use crate::profile::Amount;

/// What was measured must be so far apart, and be about this part of the time.
const LEAST: Duration = Duration::from_secs(5);
const PART: f64 = 0.5;

/// What an allocator has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeapSize {
    /// Blocks of the program, and bytes that it may use.
    pub in_use: Amount,
    /// Resident bytes of freed memory.
    pub kept: u64,
}

/// Samples with blocks as they were measured, and by how much more the allocator keeps at the end, if all the time was as what was
/// measured. But what heaps gained before that was blocks, except for what the allocator kept when it was measured first: it
/// cannot have kept less before than nothing. `heaps`: when what was measured; `grown`: by how much heaps have grown, if that is
/// known. `None`: too little was measured.
#[must_use]
pub fn measured(
    samples: &[(Duration, Sample)],
    heaps: &[(Duration, HeapSize)],
    grown: Option<i64>,
) -> Option<(Vec<(Duration, Sample)>, i64)> {
    let (&(start, first), &(end, last)) = heaps.first().zip(heaps.last())?;
    let seconds = end.checked_sub(start).filter(|&span| span >= LEAST)?.as_secs_f64();
    let whole = span_of(samples).as_secs_f64();
    if seconds < PART * whole {
        return None;
    }
    let blocks = |at: Duration, figure: fn(&HeapSize) -> u64| {
        let slope = (figure(&last) as f64 - figure(&first) as f64) / seconds;
        let place = heaps.partition_point(|(time, _)| *time <= at);
        let known = match (place.checked_sub(1).and_then(|place| heaps.get(place)), heaps.get(place)) {
            (Some((before, low)), Some((after, high))) => {
                let between = after.saturating_sub(*before).as_secs_f64().max(1e-9);
                let part = at.saturating_sub(*before).as_secs_f64() / between;
                figure(low) as f64 + part * (figure(high) as f64 - figure(low) as f64)
            }
            (Some((before, low)), None) => {
                figure(low) as f64 + slope * at.saturating_sub(*before).as_secs_f64()
            }
            (None, Some((after, high))) => {
                figure(high) as f64 - slope * after.saturating_sub(at).as_secs_f64()
            }
            (None, None) => 0.0,
        };
        known.max(0.0) as u64
    };
    let at_first = samples.get(samples.partition_point(|(at, _)| *at < start)).map(|(_, sample)| *sample);
    // At most so many bytes before the first.
    let most = |sample: &Sample| {
        let gained = |of: fn(&Sample) -> u64| at_first.map_or(0, |then| of(&then)).saturating_sub(of(sample));
        let others = gained(|sample| sample.mapped + sample.stacks);
        let heap = gained(private).saturating_sub(others).min(grown.unwrap_or(0).max(0).unsigned_abs());
        first.in_use.bytes.saturating_sub(heap.saturating_sub(first.kept))
    };
    let samples = samples.iter().map(|(at, sample)| {
        let known = blocks(*at, |heap| heap.in_use.bytes);
        let bytes = if *at < start { known.min(most(sample)) } else { known };
        let part = if bytes < known { bytes as f64 / known as f64 } else { 1.0 };
        let blocks = (blocks(*at, |heap| heap.in_use.blocks) as f64 * part) as u64;
        (*at, Sample { blocks: Amount { bytes, blocks }, ..*sample })
    });
    let kept = ((last.kept as f64 - first.kept as f64) * whole / seconds).min(last.kept as f64);
    Some((samples.collect(), kept as i64))
}

/// Private memory of a process, swapped out or not.
fn private(sample: &Sample) -> u64 {
    sample.resident.anon.saturating_add(sample.resident.swap)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Amount, HeapSize, Sample, measured};
    use crate::profile::Resident;

    #[test]
    fn blocks_are_known_between_and_around_what_was_measured() {
        let second = Duration::from_secs;
        let heap = |at: u64, bytes: u64, kept: u64| {
            (second(at), HeapSize { in_use: Amount { bytes, blocks: bytes / 10 }, kept })
        };
        let samples: Vec<_> = (0..=20).map(|at| (second(at), Sample::default())).collect();
        let heaps = [heap(4, 1000, 50), heap(8, 3000, 20), heap(14, 3000, 40)];
        let (found, kept) = measured(&samples, &heaps, None).unwrap();
        let bytes: Vec<u64> = [0, 4, 6, 10, 14, 19].map(|at: usize| found[at].1.blocks.bytes).to_vec();
        assert_eq!((bytes, kept), (vec![200, 1000, 2000, 3000, 3000, 4000], -20));
        assert_eq!(found[6].1.blocks.blocks, 200);
        // It grew before it was measured: by blocks, as the allocator keeps 50 bytes.
        let with = |at: usize, anon| {
            let resident = Resident { anon, ..Resident::default() };
            (samples[at].0, Sample { resident, ..Sample::default() })
        };
        let grown: Vec<_> = (0..=20).map(|at| with(at, if at < 3 { 100 } else { 1000 })).collect();
        for (heap, first) in [(Some(2000), 150), (Some(500), 200), (Some(-1), 200), (None, 200)] {
            let (found, _) = measured(&grown, &heaps, heap).unwrap();
            let bytes = [0, 3, 4].map(|at: usize| found[at].1.blocks.bytes);
            assert_eq!(bytes, [first, 800, 1000], "{heap:?}");
        }
        // Too few, too close, or of a small part of the time.
        assert_eq!(measured(&samples, &heaps[..1], None), None);
        assert_eq!(measured(&samples, &heaps[..2], None), None);
        let longer: Vec<_> = (0..=40).map(|at| (second(at), Sample::default())).collect();
        assert_eq!(measured(&longer, &heaps, None), None);
    }
}
