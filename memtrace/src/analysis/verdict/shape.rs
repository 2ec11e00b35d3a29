//! Whether immortal blocks are born all the time.

use super::Evidence;
use crate::{
    aggregate::{Born, PARTS},
    profile::Trend,
};

/// Fewer are no trend.
pub(super) const FEWEST: f64 = 6.0;
/// Parts of the time in which there must be some.
const LEAST_PARTS: usize = 4;
/// A part with more than this many times the median is a burst, and counts as this many times the median.
const BURST: f32 = 3.0;
/// If the second half of the time has less than this part of what the first has, growth is slowing.
const SLOWER: f64 = 0.6;
/// Half the width of a normal distribution's middle 95 %, in standard deviations.
pub(super) const Z_95: f64 = 1.96;

/// How births of blocks are distributed over time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Shape {
    /// All the time.
    Even,
    /// Fewer lately; growth at first and lately, in bytes per second.
    Slowing(f64, f64),
    /// None lately.
    Over,
    /// There are too few to tell.
    Few,
}

/// Births in the first `parts` parts of a stack's time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Births {
    pub(super) shape: Shape,
    /// Blocks counted, without bursts.
    pub(super) blocks: f64,
    /// Their growth.
    pub(super) trend: Trend,
    /// Blocks per second that they stand for.
    pub(super) blocks_per_second: f64,
}

/// Looks at the blocks born in the first `parts` parts.
pub(super) fn births(evidence: &Evidence<'_>, parts: usize) -> Births {
    let parts = parts.min(PARTS);
    let born = evidence.living.born.get(..parts).unwrap_or_default();
    let of = |value: fn(&Born) -> f32| -> Vec<f32> { born.iter().map(value).collect() };
    let raw = of(|born| born.blocks);
    let (weights, limit) = clipped(&raw);
    let (bytes, _) = clipped(&of(|born| born.bytes));
    // Without bursts, as the weights.
    let blocks: f64 = born
        .iter()
        .map(|born| f64::from(born.counted) * f64::from((limit / born.blocks.max(limit)).min(1.0)))
        .sum();
    let seconds = evidence.living.seconds / PARTS as f64;
    let span = seconds * parts.max(1) as f64;
    let rate = bytes.iter().map(|&bytes| f64::from(bytes)).sum::<f64>() / span;
    let error = Z_95 / blocks.max(1.0).sqrt();
    let half = parts.div_ceil(2);
    let sum = |values: &[f32]| values.iter().map(|&value| f64::from(value)).sum::<f64>();
    let (first, second) =
        (sum(weights.get(..half).unwrap_or_default()), sum(weights.get(half..).unwrap_or_default()));
    let shares = (half as f64, (parts - half) as f64);
    let (early, late) = (first / shares.0.max(1.0), second / shares.1.max(1.0));
    let all = first + second;
    // Of `blocks`, the second half has its share; chance alone would leave it below `SLOWER` that rarely.
    let expected = blocks * shares.1 / (shares.0 + shares.1).max(1.0);
    let found = if all > 0.0 { blocks * second / all } else { 0.0 };
    let surprising = expected - found > Z_95 * (blocks / 4.0).sqrt();
    let shape = if blocks < FEWEST || born.iter().filter(|born| born.counted > 0).count() < LEAST_PARTS {
        Shape::Few
    } else if is_over(born) {
        Shape::Over
    } else if late < SLOWER * early && surprising {
        let of = |values: &[f32], parts: f64| sum(values) / (parts.max(1.0) * seconds);
        Shape::Slowing(
            of(bytes.get(..half).unwrap_or_default(), shares.0),
            of(bytes.get(half..).unwrap_or_default(), shares.1),
        )
    } else {
        Shape::Even
    };
    Births {
        shape,
        blocks,
        trend: Trend {
            bytes_per_second: rate,
            low: rate * (1.0 - error).max(0.0),
            high: rate * (1.0 + error),
        },
        blocks_per_second: all / span,
    }
}

/// Values with bursts cut off, and where.
fn clipped(values: &[f32]) -> ([f32; PARTS], f32) {
    let mut some = [0.0; PARTS];
    let mut count = 0;
    for (place, value) in some.iter_mut().zip(values.iter().filter(|value| **value > 0.0)) {
        *place = *value;
        count += 1;
    }
    let median = match some.get_mut(..count) {
        Some(some) if count > 0 => *some.select_nth_unstable_by(count / 2, f32::total_cmp).1,
        _ => 0.0,
    };
    let limit = median * BURST;
    let mut clipped = [0.0; PARTS];
    for (place, value) in clipped.iter_mut().zip(values) {
        *place = value.min(limit);
    }
    (clipped, limit)
}

/// Whether there have been no births for more than twice as long as ever before.
fn is_over(born: &[Born]) -> bool {
    let counts = || born.iter().map(|born| born.counted);
    let tail = counts().rev().take_while(|&count| count == 0).count();
    let begun = counts().take(born.len().saturating_sub(tail)).skip_while(|&count| count == 0);
    let mut longest = 0;
    let mut run = 0;
    for count in begun {
        run = if count == 0 { run + 1 } else { 0 };
        longest = longest.max(run);
    }
    tail > 2 * longest + 1
}
