//! The decision.

use std::time::Duration;

use memtrace_common::LIFETIME_CLASSES;

use super::{
    Evidence,
    shape::{Births, FEWEST, Shape, Z_95, births},
};
use crate::{
    aggregate::{Ascent, PARTS, Times},
    profile::{Balance, Course, Grounds, Kind, Parts, Trend, lifetime_begin},
};

/// Growth in windows is not computed of a stack that was watched for less than this.
const SHORT: Duration = Duration::from_secs(1);
/// Nothing is said of a stack before it was watched for this long.
const BRIEF: Duration = Duration::from_secs(10);
/// Blocks are immortal from an age on if at most this part as many as live on were freed at that age or later.
const MORTAL: f64 = 0.02;
/// The same in windows, for the upper limit of an estimate of the frees.
const MORTAL_IN_WINDOWS: f64 = 0.3;
/// Lifetimes from this class on, 268 ms, are longer than any window.
const BEYOND_WINDOWS: usize = 4;
/// In windows, frees of old blocks that suffice to estimate their number.
const FREES_IN_WINDOWS: f64 = 8.0;
/// Growth of a queue that is still freed from its old end counts as growing after this long only.
const PATIENCE: Duration = Duration::from_secs(120);
/// How often a stack's bytes must have risen, if its number of blocks has not.
const RISES: u64 = 8;
/// A buffer that is enlarged and never became smaller counts as growing after this long.
const RISING: Duration = Duration::from_secs(20);
/// A trend matters if it made at least this part of what is outstanding.
const MATTERS: f64 = 0.1;
/// The part of a growth that is left of it if it was not freed.
const LEFT: f64 = 0.5;
/// If the process grows by less than this part of what a stack does, as many other blocks are freed.
const COMPENSATED: f64 = 0.5;
/// Leaking stacks that explain this part of a process's growth explain it.
const EXPLAINED: f64 = 0.5;
/// For each block that stays, this many that do not: then few that stay are no reason to wait.
const MANY: u64 = 20;

/// Blocks from an age on of which hardly any is freed.
struct Immortals {
    age: Duration,
    /// Blocks freed at that age or later, estimated in windows.
    after: f64,
    before: u64,
    survivors: u64,
}

/// What times alone tell of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// It was not watched for long enough, whatever its blocks do.
    Brief,
    /// It has not allocated for long.
    Ceased,
    /// Nothing: its blocks tell.
    Open,
}

impl Timing {
    /// Of a stack.
    #[must_use]
    pub fn of(times: Times) -> Self {
        let Times { watched, silent, gap, .. } = times;
        if watched < BRIEF {
            return Self::Brief;
        }
        if silent >= watched / 2 && silent >= 2 * gap { Self::Ceased } else { Self::Open }
    }
}

/// What the blocks of a stack do, and how fast they grow.
#[must_use]
pub fn judge(evidence: &Evidence<'_>) -> (Grounds, Option<Trend>) {
    let (grounds, trend) = judge_tracked(evidence);
    match grounds.kind() {
        _ if !evidence.is_full => (grounds, trend),
        // True of those that are tracked, but nobody knows how many more there are.
        Kind::Lost | Kind::Growing => (grounds, None),
        // Blocks that are not tracked do not become more.
        Kind::WarmingUp | Kind::TooEarly | Kind::Steady | Kind::StartUp => (Grounds::Untracked, None),
    }
}

/// The same as if all blocks were tracked.
fn judge_tracked(evidence: &Evidence<'_>) -> (Grounds, Option<Trend>) {
    let trend = evidence.windows.map_or(evidence.trend, |share| in_windows(evidence, share));
    if let Some((lost, checked)) = evidence.lost.filter(|(lost, _)| lost.blocks > 0) {
        return (Grounds::Unreachable { lost, checked }, trend);
    }
    match Timing::of(evidence.times) {
        Timing::Brief => {
            return (Grounds::Brief { until: evidence.now + (BRIEF - evidence.times.watched) }, trend);
        }
        Timing::Ceased => return (Grounds::Ceased { ago: evidence.times.silent }, trend),
        Timing::Open => {}
    }
    if let Some(share) = evidence.windows {
        return (of_windows(evidence, share), trend);
    }
    let Some(immortals) = immortals(evidence) else {
        return (mortal(evidence), trend);
    };
    let births = births_of(evidence, immortals.age);
    match births.shape {
        Shape::Even => (growing(evidence, &immortals, &births), Some(births.trend)),
        Shape::Slowing(first, last) => (Grounds::Slowing { first, last }, trend),
        Shape::Over | Shape::Few => (few(evidence, &immortals, &births), trend),
    }
}

/// The births of blocks that are older than that.
fn births_of(evidence: &Evidence<'_>, age: Duration) -> Births {
    let young = age.as_secs_f64() / evidence.times.watched.as_secs_f64();
    let older = ((1.0 - young).max(0.0) * PARTS as f64) as usize;
    births(evidence, older.min(evidence.living.settled))
}

/// Blocks freed in a class of lifetimes or a later one.
fn later(evidence: &Evidence<'_>, class: usize) -> f64 {
    let all = evidence.lifetimes.map_or(&[][..], |lifetimes| lifetimes.as_slice());
    all.iter().skip(class).map(|&blocks| f64::from(blocks)).sum()
}

/// The least age from which on hardly any block is freed, if there are blocks that old, and if they could be watched for as
/// long again.
fn immortals(evidence: &Evidence<'_>) -> Option<Immortals> {
    (0..LIFETIME_CLASSES).find_map(|class| {
        let age = lifetime_begin(class);
        let living = evidence.living.older(class);
        let after = later(evidence, class);
        let found = living > 0 && 2 * age <= evidence.times.watched && after <= MORTAL * living as f64;
        let before = evidence.freed.saturating_sub(after as u64);
        found.then_some(Immortals { age, after, before, survivors: living })
    })
}

fn growing(evidence: &Evidence<'_>, immortals: &Immortals, births: &Births) -> Grounds {
    if let Some((net, unknown)) = evidence.balance {
        // A cache that was full before tracing began frees the blocks that it then had.
        let comparable = births.blocks_per_second >= COMPENSATED * unknown && unknown > 0.0;
        if comparable && net.high < COMPENSATED * births.blocks_per_second {
            return Grounds::Replacing { unknown_per_second: unknown };
        }
    }
    let Immortals { age, after, before, survivors } = *immortals;
    if evidence.freed == 0 {
        return Grounds::NeverFreed { survivors };
    }
    if evidence.lifetimes.is_none() && !evidence.trend.is_some_and(|trend| trend.low > 0.0) {
        // How old the freed ones were is unknown.
        return mortal(evidence);
    }
    Grounds::Outlive { survivors, age, before, after: after as u64 }
}

/// Few blocks live on, or none that are young.
fn few(evidence: &Evidence<'_>, immortals: &Immortals, births: &Births) -> Grounds {
    if let Some(times) = enlarged(evidence, immortals.survivors as f64).filter(|_| significant(evidence)) {
        return Grounds::Enlarged { times };
    }
    if evidence.lifetimes.is_none() && evidence.freed as f64 >= FEWEST {
        return mortal(evidence);
    }
    let few = births.blocks < FEWEST && births.blocks > 1.0;
    if births.shape == Shape::Over || !few && evidence.freed >= MANY * immortals.survivors.max(1) {
        return mortal(evidence);
    }
    let factor = FEWEST / births.blocks.max(1.0);
    let until = (births.blocks > 1.0 && factor > 1.0)
        .then(|| evidence.now + evidence.times.watched.mul_f64((factor - 1.0).min(1e3)));
    Grounds::Few { blocks: immortals.survivors, until }
}

/// How often blocks have become larger, if they are so few that bytes which rise for long mean just that.
fn enlarged(evidence: &Evidence<'_>, blocks: f64) -> Option<u64> {
    let rises = evidence.ascent.map_or(0, |ascent| ascent.rises);
    (blocks > 0.0 && blocks < FEWEST && rises >= RISES).then_some(rises)
}

/// Whether outstanding bytes have grown, and by more than they vary. Of what has ended, growth must have been left.
fn significant(evidence: &Evidence<'_>) -> bool {
    let (held, seconds) = (evidence.bytes as f64, evidence.times.watched.as_secs_f64());
    evidence.trend.is_some_and(|trend| {
        let made = trend.bytes_per_second * seconds;
        trend.low > 0.0 && made >= MATTERS * held && (!evidence.ended || held >= LEFT * made)
    })
}

/// Blocks of every age are freed, or no new ones stay.
fn mortal(evidence: &Evidence<'_>) -> Grounds {
    let freed = evidence.freed;
    // With samples, a block that was counted stands for more.
    let blocks: f64 = evidence.living.born.iter().map(|born| f64::from(born.blocks)).sum();
    if significant(evidence) {
        let Ascent { first, last, .. } = evidence.ascent.unwrap_or_default();
        if last < first / 2.0 {
            return Grounds::Slowing { first, last };
        }
        // `realloc` frees a block each time that it enlarges it. What is filled and emptied looks the same for a while.
        let only_rises =
            evidence.ascent.is_some_and(|ascent| !ascent.fell) && evidence.times.watched >= RISING;
        return match enlarged(evidence, blocks).filter(|_| only_rises) {
            Some(times) => Grounds::Enlarged { times },
            None if evidence.times.watched >= PATIENCE => Grounds::FallingBehind { freed },
            None => Grounds::OldestFreed { freed },
        };
    }
    let multiplied = evidence.ascent.is_some_and(|ascent| ascent.multiplied) && blocks < FEWEST;
    if (freed as f64) < FEWEST || multiplied {
        return Grounds::Few { blocks: evidence.living.blocks(), until: None };
    }
    Grounds::Turnover { freed }
}

/// What can be told if probes were in place in windows only. That a block from an earlier window is freed is seen with the
/// probability `share`, so each such free counts for several.
fn of_windows(evidence: &Evidence<'_>, share: f64) -> Grounds {
    let share = share.clamp(1e-6, 1.0);
    let old = later(evidence, BEYOND_WINDOWS);
    // The upper limit of a Poisson count, by its normal approximation with a correction for small ones.
    let most = (old + Z_95 * (old + 1.0).sqrt() + 1.0) / share;
    // Blocks whose free was not seen still count as living, whatever their age: only all of them together can be judged.
    let survivors = evidence.living.older(BEYOND_WINDOWS);
    if evidence.lifetimes.is_some() && most <= MORTAL_IN_WINDOWS * survivors as f64 {
        let (age, before) = (lifetime_begin(BEYOND_WINDOWS), evidence.freed.saturating_sub(old as u64));
        let immortals = Immortals { age, after: old / share, before, survivors };
        let births = births_of(evidence, immortals.age);
        match births.shape {
            Shape::Even => return growing(evidence, &immortals, &births),
            Shape::Slowing(first, last) => return Grounds::Slowing { first, last },
            Shape::Over | Shape::Few => {}
        }
    }
    let living = evidence.living.blocks();
    let short = evidence.freed.saturating_sub(old as u64);
    let turns_over = old >= FREES_IN_WINDOWS && old / share >= living as f64 / 2.0;
    // That most are freed at once says nothing about those that stay.
    if turns_over || living <= 1 && short >= MANY {
        return Grounds::SeenTurnover { freed: evidence.freed };
    }
    // As many blocks as a verdict needs are there after a time in proportion to that.
    let needed = (1.0 + Z_95) / (share * MORTAL_IN_WINDOWS);
    let factor = (needed / (living as f64).max(1.0)).max(1.5);
    Grounds::Unwatched {
        share,
        until: Some(evidence.now + evidence.times.watched.mul_f64((factor - 1.0).min(1e3))),
    }
}

/// What remains of the grounds of a stack if its process grows. Turnover that windows saw is no proof that nothing stays: where
/// stacks that leak explain less than half of the growth, a small leak among the blocks that turn over may be the rest.
#[must_use]
pub fn doubt(grounds: Grounds, balance: &Balance) -> Grounds {
    let Balance { rate, leaking, grown, growing, course, .. } = balance;
    let sum = |parts: &Parts| parts.blocks + parts.kept + parts.unexplained;
    let seconds = balance.span.as_secs_f64().max(1.0);
    let (growth, leaking) = match (balance.ended, course) {
        (None, _) => (sum(rate), *leaking),
        // What has ended has no rate of late: all of its growth counts, if there was any to speak of.
        (Some(_), Course::Flat) => (0.0, 0.0),
        (Some(_), _) => (sum(grown) / seconds, growing.bytes as f64 / seconds),
    };
    match grounds {
        Grounds::SeenTurnover { .. } if growth > 0.0 && leaking < EXPLAINED * growth => {
            Grounds::Unexplained { bytes_per_second: growth - leaking }
        }
        grounds => grounds,
    }
}

/// Growth in windows: blocks that outlived their window, minus an estimate of those that were freed later, as they would be
/// if all the time had been watched. `None` if many were: how many depends on when they were.
fn in_windows(evidence: &Evidence<'_>, watched: f64) -> Option<Trend> {
    let watched = watched.clamp(1e-6, 1.0);
    let blocks = evidence.living.blocks() as f64;
    if blocks < 1.0 || evidence.lifetimes.is_none() || evidence.times.watched < SHORT {
        return None;
    }
    let freed = later(evidence, BEYOND_WINDOWS);
    let bytes = evidence.bytes as f64 / blocks / evidence.living.seconds.max(1e-3);
    let net = blocks + freed - freed / watched;
    if freed / watched > MORTAL_IN_WINDOWS * blocks {
        return None;
    }
    let error = Z_95 * (blocks + (freed + 1.0) / (watched * watched)).sqrt();
    Some(Trend { bytes_per_second: net * bytes, low: (net - error) * bytes, high: (net + error) * bytes })
}
