//! Growth and its parts.

use std::time::Duration;

use super::{Circumstances, Sample, noise, slope_of, span_of, split, total};
use crate::profile::{Knowledge, Parts, Weight};

/// What an allocator needs for live blocks besides their bytes: an estimate for rounding, and for each block a header.
const ROUNDING: f64 = 0.25;
const HEADER: f64 = 32.0;
/// What it may need in addition, whatever its blocks: caches of threads, a page here and there.
const ALLOWANCE: f64 = 1024.0 * 1024.0;

/// How many times the rate by two ends may differ from the robust slope and still be scaled to it.
const ALIKE: f64 = 2.0;

/// Growth since tracing began.
/// `least`: growth of blocks at least, with windows.
pub(super) fn whole(samples: &[(Duration, Sample)], of: &Circumstances, least: f64) -> Parts {
    let (Some((start, first)), Some((end, last))) = (samples.first(), samples.last()) else {
        return Parts::default();
    };
    let known = known((first, last), end.saturating_sub(*start), of.knowledge, least);
    let Parts { total, blocks, mapped, stacks, shared, unexplained: rest, .. } = known;
    let filled = (of.filled as f64).min(rest.max(0.0));
    let most = most_kept(rest, blocks, last, of).min(rest - filled);
    split(total, shared, [blocks, mapped, stacks], most)
}

/// By how much blocks have grown at least, where only windows were watched. What heaps have gained is blocks, but for what the
/// allocator keeps of freed memory: as much as was measured, or else as much of it as of all blocks seen was seen freed. A program
/// that allocates in a gap and frees nothing in any window keeps blocks.
pub(super) fn least_blocks(samples: &[(Duration, Sample)], of: &Circumstances) -> f64 {
    let is_bound = of.knowledge == Knowledge::AtMost && !of.heap_is_anonymous;
    let Some(grown) = of.heap_grown.filter(|_| is_bound).map(|grown| grown as f64) else {
        return 0.0;
    };
    // Where no block was seen, all may have been freed.
    let freed = of.freed_part.unwrap_or(1.0);
    let measured = of.kept_last.and_then(|(at, kept)| {
        let (end, last) = samples.last()?;
        let is_recent = end.saturating_sub(at) <= span_of(samples) / 2;
        let then = samples.iter().find(|(time, _)| *time >= at).map_or(last, |(_, then)| then);
        let since = total(last).saturating_sub(total(then)) as f64;
        is_recent.then_some(kept as f64 + freed * since)
    });
    (grown - measured.unwrap_or(freed * grown)).max(0.0)
}

/// Growth between two samples, with all that is inferred as unexplained. `least`: growth of blocks at least, with windows.
fn known((first, last): (&Sample, &Sample), span: Duration, knowledge: Knowledge, least: f64) -> Parts {
    let grown = |figure: fn(&Sample) -> u64| figure(last) as f64 - figure(first) as f64;
    let all = grown(total);
    let shared = grown(shared);
    let (mapped, stacks) = (grown(|sample| sample.mapped), grown(|sample| sample.stacks));
    let anon = all - shared - mapped - stacks;
    let seen = grown(|sample| sample.blocks.bytes);
    let blocks = match knowledge {
        Knowledge::Counted | Knowledge::Sampled | Knowledge::Measured => seen,
        Knowledge::AtMost => {
            let seen = extrapolated(seen, (first, last), span);
            let blocks = if least > 0.0 { seen.max(least) } else { seen };
            blocks.min(anon.max(0.0))
        }
    };
    Parts { total: all, blocks, mapped, stacks, kept: 0.0, shared, unexplained: anon - blocks }
}

/// The memory at each sample, with its time. `grown`: growth up to the last one, by which the rest is split.
#[must_use]
pub fn weights(samples: &[(Duration, Sample)], of: &Circumstances, grown: &Parts) -> Vec<Weight> {
    let Some((start, first)) = samples.first() else { return Vec::new() };
    let part = part_of(least_blocks(samples, of), grown);
    let weight = |(at, sample): &(Duration, Sample)| {
        let least = part * (total(sample) as f64 - total(first) as f64);
        let known = known((first, sample), at.saturating_sub(*start), of.knowledge, least);
        let Parts { total: all, blocks, mapped, stacks, shared, unexplained: rest, .. } = known;
        let grown = split(all, shared, [blocks, mapped, stacks], rest - unexplained(rest, grown));
        Weight { at: *at, bytes: total(sample), grown }
    };
    samples.iter().map(weight).collect()
}

/// What blocks have grown by at least, as a part of all growth.
fn part_of(least: f64, grown: &Parts) -> f64 {
    if grown.total > 0.0 { (least / grown.total).min(1.0) } else { 0.0 }
}

/// How much of a rest is unexplained, as far as all growth shows.
fn unexplained(rest: f64, grown: &Parts) -> f64 {
    if grown.unexplained > 0.0 && rest > 0.0 {
        rest * (grown.unexplained / (grown.unexplained + grown.kept.max(0.0)))
    } else {
        0.0
    }
}

/// How much of this rest the allocator can keep: it cannot keep more than it once had to give.
fn most_kept(rest: f64, blocks: f64, last: &Sample, of: &Circumstances) -> f64 {
    let freed = of.peak.saturating_sub(last.blocks.bytes) as f64;
    if of.uncounted.is_some() {
        // What its heaps have gained may be blocks that are not counted.
        return freed;
    }
    if of.knowledge == Knowledge::AtMost && of.heap_is_anonymous {
        return rest;
    }
    let overhead = blocks.max(0.0) * ROUNDING + last.blocks.blocks as f64 * HEADER + ALLOWANCE;
    let heap = of.heap_grown.map_or(0.0, |grown| (grown as f64 - blocks).max(0.0));
    let freed = of.kept_grown.map_or(freed, |kept| kept.max(0) as f64);
    (freed + overhead).max(heap)
}

/// Blocks seen in windows, as if they had been seen all the time.
fn extrapolated(seen: f64, (first, last): (&Sample, &Sample), span: Duration) -> f64 {
    let watched = last.seen.saturating_sub(first.seen).as_secs_f64();
    if watched > 0.0 { seen * (span.as_secs_f64() / watched).max(1.0) } else { 0.0 }
}

/// The recent rate. `grown`: growth since tracing began, by which the rest is split; `least`: that of blocks at least, with windows.
pub(super) fn rate(samples: &[(Duration, Sample)], of: &Circumstances, grown: &Parts, least: f64) -> Parts {
    let Some((_, last)) = samples.last() else { return Parts::default() };
    let seconds = span_of(samples).as_secs_f64();
    let by_ends = |figure: fn(&Sample) -> u64| ends(samples, figure);
    let all = by_ends(total);
    // Parts must add up, so all of them come from the same samples; the robust slope of the sum scales them.
    let robust = slope_of(samples, total).map_or(all, |slope| slope.median);
    let is_alike = all * robust > 0.0 && (all / robust).max(robust / all) <= ALIKE;
    let scale = if is_alike { robust / all } else { 1.0 };
    // A step that is over has no rate.
    if robust.abs() * seconds < noise(&last.resident) / 2.0 {
        return Parts::default();
    }
    let [shared, mapped, stacks] = [shared, |sample: &Sample| sample.mapped, |sample: &Sample| sample.stacks]
        .map(|figure: fn(&Sample) -> u64| ends(samples, figure) * scale);
    let anon = all * scale - shared - mapped - stacks;
    let seen = by_ends(|sample| sample.blocks.bytes) * scale;
    let blocks = match (of.knowledge, samples.first()) {
        (Knowledge::AtMost, Some((_, first))) => {
            let seen = extrapolated(seen, (first, last), span_of(samples));
            seen.max(part_of(least, grown) * all * scale).clamp(0.0, anon.max(0.0))
        }
        _ => seen,
    };
    let rest = anon - blocks;
    split(all * scale, shared, [blocks, mapped, stacks], rest - unexplained(rest, grown))
}

/// The slope between the means of the first and the last third of the samples. It is linear: slopes of parts add up.
fn ends(samples: &[(Duration, Sample)], figure: fn(&Sample) -> u64) -> f64 {
    let some = (samples.len() / 3).max(1);
    let mean = |samples: &[(Duration, Sample)]| {
        let count = samples.len().max(1) as f64;
        let time: f64 = samples.iter().map(|(at, _)| at.as_secs_f64()).sum();
        let sum: f64 = samples.iter().map(|(_, sample)| figure(sample) as f64).sum();
        (time / count, sum / count)
    };
    let head = mean(samples.get(..some).unwrap_or(samples));
    let tail = mean(samples.get(samples.len() - some.min(samples.len())..).unwrap_or(samples));
    if tail.0 > head.0 { (tail.1 - head.1) / (tail.0 - head.0) } else { 0.0 }
}

fn shared(sample: &Sample) -> u64 {
    sample.resident.file.saturating_add(sample.resident.shmem)
}
