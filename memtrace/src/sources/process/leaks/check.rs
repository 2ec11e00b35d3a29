//! One leak check: scans of a process, on a thread of its own.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use memtrace_common::TIME_SHIFT;
use rustc_hash::FxHashMap;

use super::{
    decided::{Count, Decided, Found},
    owners::{Sampled, holders},
    pass::{Free, Pass, Scanned},
    suspects::Suspects,
};
use crate::{
    bpf::{Live, LiveReader, RegisterReader},
    heap::{Blocks, Collected, How, Marked, Refused, State},
    model::ThreadRegisters,
    profile::{Before, Holder, LeakCheck, Moment},
    sources::process::census,
    target::{FileStore, Stopped},
};

/// Times of blocks are this coarse, and may be behind by a tick of the kernel's clock.
const COARSE: Duration = Duration::from_nanos((1 << TIME_SHIFT) + 10_000_000);
/// So many scans in a row must find the same blocks lost. Where pointers move, each scan misses some.
pub(in crate::sources::process) const QUIET: u32 = 2;
/// Where pointers move all the time, nothing is concluded after so many scans.
pub(in crate::sources::process) const MOST_SCANS: u32 = 12;
/// Time between two looks at whether to stop.
const STEP: Duration = Duration::from_millis(10);

/// What checks need, on their thread.
pub(super) struct Tools {
    pub(super) live: LiveReader,
    /// `None`: this kernel does not let registers be read without stopping their threads.
    pub(super) registers: Option<RegisterReader>,
    pub(super) files: Arc<FileStore>,
}

/// Registers of the threads of a running process; none if they cannot be read.
pub(in crate::sources::process) fn registers(
    reader: Option<&RegisterReader>,
    pid: u32,
) -> Vec<ThreadRegisters> {
    let read = reader.map(|reader| reader.read(pid)).transpose();
    let read = read.inspect_err(|error| tracing::debug!("registers of process {pid}: {error}"));
    read.ok().flatten().unwrap_or_default()
}

/// What to check.
pub(super) struct Job {
    pub(super) pid: u32,
    /// Index and generation, as the kernel side marks stacks.
    pub(super) target: u32,
    /// Since when every free has been seen.
    pub(super) watched_since: Duration,
    pub(super) scans: u32,
    /// Time between two scans.
    pub(super) spacing: Duration,
    /// Whether pointers may be at any address.
    pub(super) unaligned: bool,
    /// Bytes read per second; 0 for no limit.
    pub(super) rate: u64,
    /// The most time for one scan.
    pub(super) limit: Duration,
    pub(super) moment: Moment,
    /// Registers of the threads of a process that is held at its end.
    pub(super) held: Option<Vec<ThreadRegisters>>,
    /// Whether every block of glibc's allocator is known, and no other allocator is used: its other memory is free.
    pub(super) all_known: bool,
    /// Whether to ask glibc's allocator for all of its blocks.
    pub(super) census: bool,
    /// Whether every allocation since tracing began is in the table, so that others are from before.
    pub(super) exact: bool,
    /// Slots of stacks whose holders are wanted.
    pub(super) stacks: Vec<u32>,
    /// Whether to refuse a result that shows that a root is missing.
    pub(super) doubt: bool,
}

/// The result.
pub(super) struct Outcome {
    pub(super) check: LeakCheck,
    pub(super) count: Count,
    /// Who holds the blocks of the stacks asked for, by slot.
    pub(super) holders: FxHashMap<u32, Vec<Holder>>,
}

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
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let live = &tools.live;
    let cpu = cpu_time();
    let first = live.elapsed();
    let mut check = LeakCheck { moment: job.moment, scans: 0, complete: true, ..LeakCheck::default() };
    // What was allocated before the first scan was in all of them.
    let until = if job.moment == Moment::AtExit { Duration::MAX } else { first.saturating_sub(COARSE) };
    let mut suspects: Option<Suspects> = None;
    // Scans in a row that changed nothing.
    let mut quiet = 0;
    let mut saw_all = true;
    let mut census = false;
    let scanned = loop {
        if check.scans > 0 {
            wait(job.spacing, stop)?;
        }
        check.scans += 1;
        let begun = Instant::now();
        // Each of these scans may be the last.
        let holders = !job.stacks.is_empty();
        let how = How { unaligned: job.unaligned, holders };
        let known = suspects.as_ref().map(Suspects::starts);
        let scanned = self::scan(job, tools, how, known, stop)?;
        check.took += begun.elapsed();
        check.read += scanned.read;
        check.skipped = check.skipped.max(scanned.skipped);
        check.complete &= scanned.complete;
        saw_all &= scanned.saw_all;
        match &mut suspects {
            None => {
                let lost = lost(job, live, until, &scanned.marked)?;
                suspects = Some(Suspects::new(&scanned.marked, lost));
                census = scanned.census;
            }
            Some(suspects) => {
                quiet = if suspects.narrow(&scanned.marked) { 0 } else { quiet + 1 };
            }
        }
        // Once all blocks were reached, nothing is left to find.
        let is_over = suspects.as_ref().is_some_and(Suspects::is_empty);
        if is_over || check.scans >= job.scans && (quiet >= QUIET || job.scans == 1) {
            break scanned;
        }
        if check.scans >= MOST_SCANS {
            // Pointers move faster than they can be read.
            suspects = None;
            break scanned;
        }
    };
    // What was not read may hold the only pointer.
    let suspects = suspects.filter(|_| saw_all);
    let candidates = suspects.map(Suspects::into_starts).unwrap_or_default();
    decided.extend(job.watched_since..until);
    let mut sampled = Sampled::new(&job.stacks);
    let mut traced = Traced { candidates: &candidates, seen: vec![false; candidates.len()], blocks: 0 };
    let count = self::count(job, live, decided, &scanned.marked, &mut traced, &mut sampled)?;
    if job.doubt && is_doubtful(&count) {
        return Err(Failure::RootMissing {
            lost: count.reached.lost().blocks,
            checked: count.reached.all().blocks,
        });
    }
    check.reached = count.reached;
    check.undecided = count.undecided;
    check.before =
        (census && scanned.census && job.exact && saw_all).then(|| traced.others(&scanned.marked)).flatten();
    let Scanned { marked, words, regions, .. } = scanned;
    let holders = holders(job.pid, &sampled, &marked, &words, regions, &tools.files);
    check.at = live.elapsed();
    check.cpu = cpu_time().saturating_sub(cpu);
    Ok(Outcome { check, count, holders })
}

fn scan(
    job: &Job,
    tools: &Tools,
    how: How,
    suspects: Option<&[u64]>,
    stop: &AtomicBool,
) -> Result<Scanned, Failure> {
    // Until the scan is over.
    let stopped = (job.moment == Moment::Stopped).then(|| Stopped::new(job.pid)).transpose()?;
    let (blocks, free) = match with_census(&tools.live, job)? {
        Some(known) => known,
        None => (blocks(&tools.live, job)?, if job.all_known { Free::Glibc } else { Free::Unknown }),
    };
    let threads = match (&job.held, &stopped) {
        (Some(threads), _) => threads.clone(),
        (None, Some(stopped)) => stopped.registers().to_vec(),
        (None, None) => registers(tools.registers.as_ref(), job.pid),
    };
    let (pid, rate, limit) = (job.pid, job.rate, job.limit);
    Pass { pid, threads, how, suspects, free, rate, limit, stop }.run(blocks)
}

/// The lost blocks that are decided on, in order: where each begins. Younger ones may not have been stored anywhere when the
/// first scan began.
fn lost(job: &Job, live: &LiveReader, until: Duration, marked: &Marked) -> Result<Vec<u64>, Failure> {
    let is_lost = |start: u64| marked.blocks().beginning_at(start).is_some_and(|block| marked.is_lost(block));
    let mut others = Vec::new();
    live.for_each(job.target, |block| {
        let start = block.address & !7;
        if !(job.watched_since..until).contains(&block.time) && is_lost(start) {
            others.push(start);
        }
    })?;
    others.sort_unstable();
    let lost = marked.lost().map(|(start, _)| start);
    Ok(lost.filter(|start| others.binary_search(start).is_err()).collect())
}

/// The live blocks together with those that the allocator knows, from before tracing began too; and what it keeps free. `None`:
/// there is no census of this process.
///
/// A block in the allocator's memory that the allocator does not know of has been freed: unseen, or this moment.
fn with_census(live: &LiveReader, job: &Job) -> Result<Option<(Blocks, Free)>, Failure> {
    if !job.census {
        return Ok(None);
    }
    let taken = census::collected(job.pid, None);
    let taken = taken.inspect_err(|error| tracing::debug!("no census of process {}: {error}", job.pid));
    let Ok((census, mut collected)) = taken else { return Ok(None) };
    let free = Free::Ranges(census.own);
    live.for_each(job.target, |block| {
        if block.time >= job.watched_since && !free.contains(block.address) {
            collected.add(block.address, block.sample.size());
        }
    })?;
    let number = collected.len();
    let blocks = collected.finish().ok_or(Failure::Blocks(number))?;
    Ok(Some((blocks, free)))
}

/// The live blocks of a process. Those from before a gap are left out: they may have been freed unseen, and what is there now
/// may hold pointers.
fn blocks(live: &LiveReader, job: &Job) -> Result<Blocks, Failure> {
    let mut collected = Collected::new();
    live.for_each(job.target, |block| {
        if block.time >= job.watched_since {
            collected.add(block.address, block.sample.size());
        }
    })?;
    let number = collected.len();
    collected.finish().ok_or(Failure::Blocks(number))
}

/// Which blocks of a scan were traced.
struct Traced<'a> {
    /// Where lost blocks begin, in order.
    candidates: &'a [u64],
    /// Which of them are in the table.
    seen: Vec<bool>,
    /// All blocks of the scan that are.
    blocks: usize,
}

impl Traced<'_> {
    /// A block of the table is in the scan too. Returns its place among the candidates.
    fn see(&mut self, start: u64) -> Option<usize> {
        self.blocks += 1;
        let place = self.candidates.binary_search(&start).ok()?;
        *self.seen.get_mut(place)? = true;
        Some(place)
    }

    /// The blocks that are not in the table; `None` if more look lost than can be.
    fn others(&self, marked: &Marked) -> Option<Before> {
        let checked = marked.blocks().len().saturating_sub(self.blocks) as u64;
        let mut sizes: FxHashMap<u64, u64> = FxHashMap::default();
        let others = self.candidates.iter().zip(&self.seen).filter(|(_, seen)| !**seen);
        for number in others.filter_map(|(start, _)| marked.blocks().beginning_at(*start)) {
            if marked.is_lost(number) {
                *sizes.entry(marked.blocks().size(number)).or_default() += 1;
            }
        }
        let lost: u64 = sizes.values().sum();
        let is_doubtful = lost * 2 > checked && are_most_lost(marked, &sizes);
        (!is_doubtful).then(|| Before::new(checked, sizes))
    }
}

/// Whether more than half of the blocks of more than half of the sizes are lost. `lost`: blocks by size.
fn are_most_lost(marked: &Marked, lost: &FxHashMap<u64, u64>) -> bool {
    let mut all: FxHashMap<u64, u64> = FxHashMap::default();
    for number in 0..marked.blocks().len() as u32 {
        *all.entry(marked.blocks().size(number)).or_default() += 1;
    }
    let mostly = all.iter().filter(|(size, blocks)| lost.get(size).is_some_and(|lost| lost * 2 > **blocks));
    mostly.count() * 2 > all.len()
}

/// Adds up what is known of every live block.
fn count(
    job: &Job,
    live: &LiveReader,
    decided: &mut Decided,
    marked: &Marked,
    traced: &mut Traced<'_>,
    sampled: &mut Sampled,
) -> Result<Count, Failure> {
    let mut count = Count::default();
    live.for_each(job.target, |block: Live| {
        let number = marked.blocks().beginning_at(block.address);
        let place = number.and_then(|_| traced.see(block.address & !7));
        let found = number.and_then(|number| {
            if !marked.is_lost(number) {
                sampled.add(block.slot, number);
            }
            Some(match marked.state(number) {
                State::Reachable => Found::Reachable,
                State::Possibly => Found::Possibly,
                state @ (State::Lost | State::IndirectlyLost) => {
                    place?;
                    let through = marked.lost_through(number);
                    Found::Lost { indirectly: state == State::IndirectlyLost, through }
                }
            })
        });
        decided.add(&mut count, &block, found);
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
