//! One leak check: scans of a process, on a thread of its own.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use memtrace_common::TIME_SHIFT;

use super::{
    before::Candidates,
    decided::{Count, Decided, Found},
    in_use,
    job::{Census, Job, Outcome, Tools},
    owners::{Sampled, holders},
    pass::{Free, Pass, Scanned},
    registers,
    suspects::Suspects,
    worker::Signals,
};
use crate::{
    bpf::{Live, LiveReader},
    heap::{Blocks, Collected, Holders, How, Marked, Refused, State},
    profile::{LeakCheck, Moment},
    sources::process::census,
    target::Stopped,
};

/// Times of blocks are this coarse, and may be behind by a tick of the kernel's clock.
const COARSE: Duration = Duration::from_nanos((1 << TIME_SHIFT) + 10_000_000);
/// So many scans in a row must find the same blocks lost. Where pointers move, each scan misses some.
pub(in crate::sources::process) const QUIET: u32 = 2;
/// Where pointers move all the time, nothing is concluded after so many scans.
pub(in crate::sources::process) const MOST_SCANS: u32 = 12;
/// Time between two looks at whether to stop.
const STEP: Duration = Duration::from_millis(10);

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(in crate::sources::process) enum Failure {
    /// It was to stop, or took too long.
    #[error("it was cut short")]
    Cut,
    #[error("the process has ended")]
    Gone,
    #[error("too many blocks, or too far apart, for the memory that a leak check may use: {0} blocks")]
    Blocks(usize),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("{lost} of {checked} blocks look lost, of most stacks")]
    RootMissing { lost: u64, checked: u64 },
    #[error("cannot read the process's memory: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Stop(#[from] crate::target::Error),
}

/// Checks a process.
///
/// # Errors
/// It was cut short, or the memory cannot be read, or the result cannot be right.
pub(super) fn run(
    job: &Job,
    tools: &Tools,
    decided: &mut Decided,
    signals: &Signals,
) -> Result<Outcome, Failure> {
    let (live, stop) = (&tools.live, &signals.stop);
    let cpu = cpu_time();
    let first = live.elapsed();
    let (moment, pid) = (job.moment, Some(job.pid));
    let mut check = LeakCheck { moment, scans: 0, complete: true, pid, ..LeakCheck::default() };
    // What was allocated before the first scan was in all of them.
    let until = if job.moment == Moment::AtExit { Duration::MAX } else { first.saturating_sub(COARSE) };
    // Younger blocks may not have been stored anywhere when the first scan began.
    let times = job.watched_since..if job.scans == 1 { Duration::MAX } else { until };
    let how = How {
        unaligned: job.unaligned,
        holders: if job.stacks.is_empty() { Holders::Unknown } else { Holders::Paths },
        others: false,
        // A process at rest allocates nothing.
        young: job.census == Census::First && job.scans > 1,
    };
    let begun = Instant::now();
    let mut free = Free::Unknown;
    let mut scanned = scan(job, tools, how, stop, || {
        let (blocks, rest) = first_blocks(live, job, &times)?;
        free = rest.clone();
        Ok((blocks, rest))
    })?;
    scanned.add_to(&mut check, begun);
    let mut saw_all = scanned.saw_all;
    let mut candidates = lost(job, live, &times, &free, &scanned.marked)?;
    let mut last = None;
    if job.scans > 1 {
        let mut suspects = Suspects::new(&scanned.marked, candidates);
        scanned.marked.forget_pointers();
        let how =
            How { holders: Holders::Unknown, others: matches!(free, Free::Ranges(..)), young: false, ..how };
        // Scans in a row that changed nothing.
        let mut quiet = 0;
        while !suspects.is_empty() && (check.scans < job.scans || quiet < QUIET) {
            if check.scans >= MOST_SCANS {
                // Pointers move faster than they can be read.
                saw_all = false;
                break;
            }
            wait(job.spacing, stop)?;
            let begun = Instant::now();
            let again =
                scan(job, tools, how, stop, || Ok((only(&scanned.marked, &suspects)?, free.clone())))?;
            again.add_to(&mut check, begun);
            saw_all &= again.saw_all;
            let there = there(live, job, &times, &again)?;
            quiet = if suspects.narrow(&again.marked, &there) { 0 } else { quiet + 1 };
            last = (!suspects.is_empty()).then_some(again.marked);
        }
        candidates = suspects.into_starts();
    }
    let Scanned { marked, words, regions, .. } = scanned;
    let last = if job.scans > 1 { last.as_ref() } else { Some(&marked) };
    // What was not read may hold the only pointer.
    let verdict = Verdict { first: &marked, last, times, is_final: saw_all };
    decided.extend(job.watched_since..until);
    let mut sampled = Sampled::new(&job.stacks);
    let mut candidates = Candidates::new(candidates);
    let count = self::count(job, live, decided, &verdict, &mut candidates, &mut sampled)?;
    if job.doubt && is_doubtful(&count) {
        return Err(Failure::RootMissing {
            lost: count.reached.lost().blocks,
            checked: count.reached.all().blocks,
        });
    }
    check.reached = count.reached;
    check.undecided = count.undecided;
    let knows_others = matches!(free, Free::Ranges(..)) && job.exact && saw_all;
    check.before = knows_others.then(|| candidates.others(&marked)).flatten();
    signals.decided.store(true, Ordering::Relaxed);
    let wants_late = job.census == Census::Last && !job.stacks.is_empty();
    let late = wants_late.then(|| in_use::holders(job, tools, signals)).transpose();
    let late = late.inspect_err(|error| tracing::debug!("no holders in use of process {}: {error}", job.pid));
    let holders = match late.ok().flatten() {
        Some(holders) => holders,
        None => holders(job.pid, &sampled, &marked, &words, regions, &tools.files),
    };
    check.at = live.elapsed();
    check.cpu = cpu_time().saturating_sub(cpu);
    Ok(Outcome { check, count, holders })
}

/// `blocks`: the blocks to look for, once the process is stopped, if it is to be, and where what is in no block is free.
fn scan(
    job: &Job,
    tools: &Tools,
    how: How,
    stop: &AtomicBool,
    blocks: impl FnOnce() -> Result<(Blocks, Free), Failure>,
) -> Result<Scanned, Failure> {
    // Until the scan is over.
    let stopped = (job.moment == Moment::Stopped).then(|| Stopped::new(job.pid)).transpose()?;
    let (blocks, free) = blocks()?;
    let threads = match (&job.held, &stopped) {
        (Some(threads), _) => registers::at_rest(tools.registers.as_ref(), job.pid, threads),
        (None, Some(stopped)) => registers::at_rest(tools.registers.as_ref(), job.pid, stopped.registers()),
        (None, None) => registers::running(tools.registers.as_ref(), job.pid),
    };
    let (pid, rate, limit) = (job.pid, job.rate, job.limit);
    Pass { pid, threads, how, free, rate, limit, stop }.run(blocks)
}

/// The blocks of the first scan, and what is free.
///
/// With a census these are the live blocks together with those that the allocator knows, from before tracing began too. A
/// block in the allocator's memory that the allocator does not know of has been freed: unseen, or this moment.
///
/// Without one, they are the live blocks that were allocated at certain times: memory of others counts as roots. Those from
/// before a gap may have been freed unseen, and what is there now may hold pointers; what the youngest point to is in use.
fn first_blocks(live: &LiveReader, job: &Job, times: &Range<Duration>) -> Result<(Blocks, Free), Failure> {
    let taken = (job.census == Census::First).then(|| census::collected(job.pid, None)).transpose();
    let taken = taken.inspect_err(|error| tracing::debug!("no census of process {}: {error}", job.pid));
    let (mut collected, free) = match taken.ok().flatten() {
        Some((census, collected)) => (collected, Free::Ranges(census.allocator, census.own)),
        None => (Collected::new(), if job.all_known { Free::Glibc } else { Free::Unknown }),
    };
    live.for_each(job.target, |block| {
        if times.contains(&block.time) && !free.contains(block.address) {
            collected.add(block.address, block.sample.size());
        }
    })?;
    let number = collected.len();
    Ok((collected.finish().ok_or(Failure::Blocks(number))?, free))
}

/// Where the blocks begin, in order, that the first scan calls lost and that are decided on: those of the table that were
/// allocated at certain times, and those from before, where they can be told from others.
fn lost(
    job: &Job,
    live: &LiveReader,
    times: &Range<Duration>,
    free: &Free,
    marked: &Marked,
) -> Result<Vec<u64>, Failure> {
    let lost: Vec<u64> = marked.lost().map(|(start, _)| start).collect();
    if lost.is_empty() || !matches!(free, Free::Ranges(..)) {
        return Ok(lost);
    }
    // The allocator knows others too.
    let mut are_decided = vec![job.exact; lost.len()];
    live.for_each(job.target, |block| {
        if let Ok(place) = lost.binary_search(&(block.address & !7))
            && let Some(is_decided) = are_decided.get_mut(place)
        {
            *is_decided = times.contains(&block.time);
        }
    })?;
    let lost = lost.into_iter().zip(are_decided);
    Ok(lost.filter_map(|(start, is_decided)| is_decided.then_some(start)).collect())
}

/// The blocks of later scans: those that none has reached yet. What the others point to is in use.
///
/// # Errors
/// The memory that a scan may use does not suffice.
pub(in crate::sources::process) fn only(first: &Marked, suspects: &Suspects) -> Result<Blocks, Failure> {
    first.only(suspects.starts()).ok_or_else(|| Failure::Blocks(first.blocks().len()))
}

/// Whether each of the blocks that were scanned last is still there: the table has it, and the allocator, if it was asked. One
/// from before is in no table, unless it was freed and its address handed out again.
fn there(
    live: &LiveReader,
    job: &Job,
    times: &Range<Duration>,
    scanned: &Scanned,
) -> Result<Vec<bool>, Failure> {
    let blocks = scanned.marked.blocks();
    let recount = scanned.recount.as_ref().and_then(|recount| {
        let recount = recount.as_ref();
        recount.inspect_err(|error| tracing::debug!("no census of process {}: {error}", job.pid)).ok()
    });
    let known = recount.filter(|_| job.exact).map(|recount| recount.there().to_vec());
    let mut there = known.unwrap_or_else(|| vec![false; blocks.len()]);
    live.for_each(job.target, |block| {
        if let Some(number) = blocks.beginning_at(block.address)
            && let Some(there) = there.get_mut(number as usize)
        {
            let is_freed = || recount.is_some_and(|recount| recount.is_freed(number, block.address));
            *there = times.contains(&block.time) && !is_freed();
        }
    })?;
    Ok(there)
}

/// What the scans of a check say.
struct Verdict<'a> {
    /// The first, of all blocks.
    first: &'a Marked,
    /// The last, of those that none before has reached. `None`: all have been reached.
    last: Option<&'a Marked>,
    /// When the blocks that they decide on were allocated.
    times: Range<Duration>,
    /// Whether those that it has not reached either are lost; otherwise nothing is said of them.
    is_final: bool,
}

impl Verdict<'_> {
    /// What they say of a block, by its number in the first.
    fn of(&self, block: &Live, number: u32) -> Option<Found> {
        match self.first.state(number) {
            State::Reachable => return Some(Found::Reachable),
            State::Possibly => return Some(Found::Possibly),
            // It was known for the ways that lead through it.
            State::Lost | State::IndirectlyLost if !self.times.contains(&block.time) => return None,
            State::Lost | State::IndirectlyLost => {}
        }
        let Some((last, number)) =
            self.last.and_then(|last| Some((last, last.blocks().beginning_at(block.address)?)))
        else {
            return Some(Found::Reachable);
        };
        match last.state(number) {
            State::Reachable | State::Possibly => Some(Found::Reachable),
            state @ (State::Lost | State::IndirectlyLost) => self.is_final.then(|| Found::Lost {
                indirectly: state == State::IndirectlyLost,
                through: last.lost_through(number),
            }),
        }
    }
}

/// Adds up what is known of every live block.
fn count(
    job: &Job,
    live: &LiveReader,
    decided: &mut Decided,
    verdict: &Verdict<'_>,
    candidates: &mut Candidates,
    sampled: &mut Sampled,
) -> Result<Count, Failure> {
    let mut count = Count::default();
    live.for_each(job.target, |block: Live| {
        let number = verdict.first.blocks().beginning_at(block.address);
        if let Some(number) = number {
            candidates.see(block.address & !7);
            if !verdict.first.is_lost(number) {
                sampled.add(block.slot, number);
            }
        }
        decided.add(&mut count, &block, number.and_then(|number| verdict.of(&block, number)));
    })?;
    decided.finish(&mut count);
    Ok(count)
}

/// Stacks below which nothing is concluded from how many of them look lost.
const FEW_STACKS: usize = 10;

/// Whether so much looks lost that something which holds it must have been overlooked: more than half of the blocks, of more
/// than half of the stacks. A program may lose all blocks of some stacks, but hardly of most.
fn is_doubtful(count: &Count) -> bool {
    let checked = || count.stacks.values().filter(|stack| stack.checked > 0);
    let mostly_lost = checked().filter(|stack| stack.lost.blocks * 2 > stack.checked).count();
    let stacks = checked().count();
    stacks >= FEW_STACKS
        && mostly_lost * 2 > stacks
        && count.reached.lost().blocks * 2 > count.reached.all().blocks
}

/// Waits between two scans.
pub(in crate::sources::process) fn wait(time: Duration, stop: &AtomicBool) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(Failure::Cut);
        }
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(STEP));
    }
}

/// CPU time of this thread.
pub(in crate::sources::process) fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}
