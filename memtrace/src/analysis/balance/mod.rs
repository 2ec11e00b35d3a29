//! The balance of a process: what its memory grows by, and the verdict on that (docs/balance.md).

mod forecast;
mod measured;
mod parts;
mod verdict;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use forecast::{Bound, Measure};
pub use measured::{HeapSize, measured};
pub use parts::weights;

use super::trend;
use crate::profile::{
    Amount, Balance, CgroupGrowth, Course, Knowledge, Limit, LimitKind, Parts, Resident, Standing,
    ThreadStacks, Uncounted,
};

/// Cgroups with a limit that a sample holds.
pub const MAX_CGROUPS: usize = 4;

/// No verdict before this time, and not with fewer samples.
const LEAST_SPAN: Duration = Duration::from_secs(10);
const LEAST_SAMPLES: usize = 8;
/// Samples are no closer than this.
const LEAST_APART: Duration = Duration::from_secs(1);
/// How far back the recent rate looks: half the session, at least this.
const RECENT: Duration = Duration::from_secs(20);
/// Growth that is noise: this much, or this part of what was there.
const NOISE: f64 = 192.0 * 1024.0;
const NOISE_PART: f64 = 1.0 / 256.0;

/// What is read of a process once a second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Its memory.
    pub resident: Resident,
    /// Its threads.
    pub threads: u64,
    /// Time in which its allocations were seen, up to now.
    pub seen: Duration,
    /// Its outstanding blocks, as far as they were seen.
    pub blocks: Amount,
    /// What it has mapped itself, without stacks: resident bytes.
    pub mapped: u64,
    /// Their address space, and ranges.
    pub mapped_ranges: Amount,
    /// Stacks of threads: resident bytes.
    pub stacks: u64,
    /// Their address space, and number.
    pub stack_ranges: Amount,
    /// What the cgroups with a limit hold.
    pub held: [u64; MAX_CGROUPS],
    /// Shared memory, page cache and kernel memory of its cgroup.
    pub cgroup: [u64; 3],
    /// Bytes that it has written by calls; `None`: not known.
    pub written: Option<u64>,
}

/// What is known besides samples.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// The process.
    pub pid: u32,
    /// How the growth of blocks is known.
    pub knowledge: Knowledge,
    /// Why not all blocks are counted; `None`: they are.
    pub uncounted: Option<Uncounted>,
    /// What was outstanding when it exited; `None`: it lives.
    pub ended: Option<Amount>,
    /// The most bytes of blocks that were outstanding at once.
    pub peak: u64,
    /// Bytes that leak checks have found lost.
    pub lost: u64,
    /// How fast stacks grow that leak by their verdicts, bytes per second.
    pub leaking: f64,
    /// What stacks hold that leak by their verdicts.
    pub growing: Amount,
    /// Growth of resident memory that is certainly the allocator's, blocks included; `None`: not measured.
    pub heap_grown: Option<i64>,
    /// By how much more the allocator keeps of freed memory than at first; `None`: not measured.
    pub kept_grown: Option<i64>,
    /// When it was last measured what the allocator keeps, and how much that was.
    pub kept_last: Option<(Duration, u64)>,
    /// Blocks seen freed, those from before included, as a part of those seen allocated, at most 1; `None`: none was.
    pub freed_part: Option<f64>,
    /// What memory has gained that was mapped before tracing began and is no heap.
    pub filled: u64,
    /// Whether memory that the allocator maps cannot be distinguished from what is not seen.
    pub heap_is_anonymous: bool,
    /// Stacks of threads created since tracing began.
    pub stacks: ThreadStacks,
    /// The path of its cgroup.
    pub cgroup: Option<String>,
    /// What bounds its memory.
    pub bounds: Vec<Bound>,
    /// Its allocators.
    pub allocators: Vec<String>,
}

/// The balance of a process by its samples, at least one. Children and weights are left to the caller.
#[must_use]
pub fn balance(samples: &[(Duration, Sample)], of: &Circumstances) -> Balance {
    let (Some((start, first)), Some((end, last))) = (samples.first(), samples.last()) else {
        return Balance::default();
    };
    let span = end.saturating_sub(*start);
    let recent = recent(samples);
    let least = parts::least_blocks(samples, of);
    let grown = parts::whole(samples, of, least);
    let rate = parts::rate(recent, of, &grown, least);
    let change =
        |now: u64, before: u64| i64::try_from(now).unwrap_or(i64::MAX).saturating_sub_unsigned(before);
    let cgroup = of.cgroup.as_ref().map(|name| {
        let [shmem, cache, kernel] = [0, 1, 2].map(|at| {
            let of = |sample: &Sample| sample.cgroup.get(at).copied().unwrap_or_default();
            change(of(last), of(first))
        });
        CgroupGrowth { name: name.clone(), shmem, cache, kernel }
    });
    let mut balance = Balance {
        pid: of.pid,
        span,
        resident: last.resident,
        grown,
        rate,
        recent: span_of(recent),
        knowledge: of.knowledge,
        lost: of.lost,
        leaking: of.leaking,
        mapped_size: last.mapped_ranges.bytes,
        mapped_ranges: last.mapped_ranges.blocks,
        stacks: of.stacks,
        page_tables_grown: change(last.resident.page_tables, first.resident.page_tables),
        cgroup,
        allocators: of.allocators.clone(),
        ended: of.ended,
        growing: of.growing,
        uncounted: of.uncounted,
        filled: of.filled.min(grown.unexplained.max(0.0) as u64),
        lacks: lacks(samples),
        flat: flat(samples),
        ..Balance::default()
    };
    balance.stacks.unjoined = verdict::are_unjoined(recent, &of.stacks);
    let weighed = if balance.lacks > Duration::ZERO {
        (verdict::early(&balance), balance.course)
    } else {
        verdict::verdict(samples, recent, &balance)
    };
    (balance.standing, balance.course) = verdict::with_stacks(weighed, &balance);
    balance.limit = forecast::first(recent, &of.bounds);
    // What others use of a cgroup counts even if this process uses no more; of the machine, it is not about this process.
    let is_shared = |limit: &Limit| matches!(limit.kind, LimitKind::CgroupMax(_) | LimitKind::CgroupHigh(_));
    let does_not_grow = balance.course == Course::Flat || balance.standing == Standing::NoLeak;
    if let Some(limit) = &mut balance.limit
        && (of.ended.is_some() || does_not_grow && !is_shared(limit))
    {
        limit.reached_in = None;
    }
    if let Some(left) = of.ended {
        balance.standing = verdict::at_end(&balance, left, of.peak);
        (balance.rate, balance.leaking) = (Parts::default(), 0.0);
    }
    balance
}

/// Time until there are enough samples: as far apart as those so far, and no less than a second.
fn lacks(samples: &[(Duration, Sample)]) -> Duration {
    let span = span_of(samples);
    let [gaps, missing] = [samples.len().saturating_sub(1), LEAST_SAMPLES.saturating_sub(samples.len())]
        .map(|number| u32::try_from(number).unwrap_or(u32::MAX));
    let apart = span.checked_div(gaps).unwrap_or_default().max(LEAST_APART);
    LEAST_SPAN.saturating_sub(span).max(apart.saturating_mul(missing))
}

/// For how long the memory has been as it is now, but for noise.
fn flat(samples: &[(Duration, Sample)]) -> Duration {
    let Some((end, last)) = samples.last() else { return Duration::ZERO };
    let (now, noise) = (total(last), noise(&last.resident));
    let is_alike = |sample: &Sample| total(sample).abs_diff(now) as f64 <= noise;
    let since = samples.iter().rev().take_while(|(_, sample)| is_alike(sample)).last();
    since.map_or(Duration::ZERO, |(since, _)| end.saturating_sub(*since))
}

/// The samples that the recent rate is about.
fn recent(samples: &[(Duration, Sample)]) -> &[(Duration, Sample)] {
    let (Some((start, _)), Some((end, _))) = (samples.first(), samples.last()) else { return samples };
    let back = (end.saturating_sub(*start) / 2).max(RECENT);
    let from = samples.partition_point(|(at, _)| end.saturating_sub(*at) > back);
    samples.get(from..).unwrap_or(samples)
}

fn span_of(samples: &[(Duration, Sample)]) -> Duration {
    let end = samples.last().map_or(Duration::ZERO, |(at, _)| *at);
    samples.first().map_or(Duration::ZERO, |(at, _)| end.saturating_sub(*at))
}

/// Growth that may be noise, bytes, for a process with this much memory.
fn noise(resident: &Resident) -> f64 {
    NOISE.max(resident.rss() as f64 * NOISE_PART)
}

/// The slope of a figure over time, bytes per second.
fn slope_of(samples: &[(Duration, Sample)], figure: impl Fn(&Sample) -> u64) -> Option<trend::Slope> {
    let points: Vec<(f64, f64)> =
        samples.iter().map(|(at, sample)| (at.as_secs_f64(), figure(sample) as f64)).collect();
    trend::slope(&points)
}

/// Everything resident, and what is swapped out.
fn total(sample: &Sample) -> u64 {
    sample.resident.rss().saturating_add(sample.resident.swap)
}

/// The parts that make up the total, with what is anonymous besides blocks, mappings and stacks split into what the
/// allocator keeps, at most `most` of it, and the rest.
fn split(total: f64, shared: f64, [blocks, mapped, stacks]: [f64; 3], most: f64) -> Parts {
    let rest = total - shared - blocks - mapped - stacks;
    let kept = rest.min(most);
    Parts { total, blocks, mapped, stacks, kept, shared, unexplained: rest - kept }
}
