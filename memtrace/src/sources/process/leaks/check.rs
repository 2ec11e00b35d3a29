//! One leak check: scans of a process, on a thread of its own.

use std::{
    ops::Range,
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
    memory::TargetMemory,
    owners::{Sampled, Words, holders},
    suspects::Suspects,
};
use crate::{
    bpf::{Live, LiveReader, RegisterReader},
    heap::{self, Blocks, Collected, How, Marked, Refused, State},
    model::ThreadRegisters,
    profile::{Holder, LeakCheck, Moment},
    target::{
        FileStore, Stopped,
        memory::{Reader, Region, kernel_held, regions},
        threads,
    },
};

/// Times of blocks are this coarse, and may be behind by a tick of the kernel's clock.
const COARSE: Duration = Duration::from_nanos((1 << TIME_SHIFT) + 10_000_000);
/// So many scans in a row must find the same blocks lost. Where pointers move, each scan misses some.
const QUIET: u32 = 2;
/// Where pointers move all the time, nothing is concluded after so many scans.
const MOST_SCANS: u32 = 12;
/// Time between two looks at whether to stop.
const STEP: Duration = Duration::from_millis(10);

/// What checks need, on their thread.
pub(super) struct Tools {
    pub(super) live: LiveReader,
    /// `None`: this kernel does not let registers be read without stopping their threads.
    pub(super) registers: Option<RegisterReader>,
    pub(super) files: Arc<FileStore>,
}

impl Tools {
    /// Registers of the threads of a running process; none if they cannot be read.
    fn registers(&self, pid: u32) -> Vec<ThreadRegisters> {
        let read = self.registers.as_ref().map(|reader| reader.read(pid)).transpose();
        let read = read.inspect_err(|error| tracing::debug!("registers of process {pid}: {error}"));
        read.ok().flatten().unwrap_or_default()
    }
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
pub(super) enum Failure {
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
    // Younger blocks may not have been stored anywhere when the first scan began. What they point to is in use.
    let known = job.watched_since..if job.scans == 1 { Duration::MAX } else { until };
    let how = How { unaligned: job.unaligned, holders: !job.stacks.is_empty() };
    let mut scanned = self::scan(job, tools, how, stop, || blocks(live, job, &known))?;
    scanned.add_to(&mut check);
    let mut saw_all = scanned.saw_all;
    let mut last = None;
    if job.scans > 1 {
        let mut suspects = Suspects::new(&scanned.marked);
        scanned.marked.forget_pointers();
        let how = How { holders: false, ..how };
        // Scans in a row that changed nothing.
        let mut quiet = 0;
        while !suspects.is_empty() && (check.scans < job.scans || quiet < QUIET) {
            if check.scans >= MOST_SCANS {
                // Pointers move faster than they can be read.
                saw_all = false;
                break;
            }
            wait(job.spacing, stop)?;
            let only = || {
                let blocks = scanned.marked.only(suspects.starts());
                blocks.ok_or_else(|| Failure::Blocks(scanned.marked.blocks().len()))
            };
            let again = self::scan(job, tools, how, stop, only)?;
            again.add_to(&mut check);
            saw_all &= again.saw_all;
            let present = present(live, job, &known, &again.marked)?;
            quiet = if suspects.narrow(&again.marked, &present) { 0 } else { quiet + 1 };
            last = (!suspects.is_empty()).then_some(again.marked);
        }
    }
    let Scanned { marked, words, regions, .. } = scanned;
    let last = if job.scans > 1 { last.as_ref() } else { Some(&marked) };
    // What was not read may hold the only pointer.
    let verdict = Verdict { first: &marked, last, is_final: saw_all };
    decided.extend(job.watched_since..until);
    let mut sampled = Sampled::new(&job.stacks);
    let count = self::count(job, live, decided, &verdict, &mut sampled)?;
    if job.doubt && is_doubtful(&count) {
        return Err(Failure::RootMissing {
            lost: count.reached.lost().blocks,
            checked: count.reached.all().blocks,
        });
    }
    check.reached = count.reached;
    check.undecided = count.undecided;
    let holders = holders(job.pid, &sampled, &marked, &words, regions, &tools.files);
    check.at = live.elapsed();
    check.cpu = cpu_time().saturating_sub(cpu);
    Ok(Outcome { check, count, holders })
}

/// One scan.
struct Scanned {
    marked: Marked,
    words: Words,
    regions: Vec<Region>,
    read: u64,
    skipped: u64,
    complete: bool,
    /// Whether no memory was swapped out, and all words that the kernel shows were read.
    saw_all: bool,
    took: Duration,
}

impl Scanned {
    fn add_to(&self, check: &mut LeakCheck) {
        check.scans += 1;
        check.took += self.took;
        check.read += self.read;
        check.skipped = check.skipped.max(self.skipped);
        check.complete &= self.complete;
    }
}

/// `blocks`: the blocks to look for, once the process is stopped, if it is to be.
fn scan(
    job: &Job,
    tools: &Tools,
    how: How,
    stop: &AtomicBool,
    blocks: impl FnOnce() -> Result<Blocks, Failure>,
) -> Result<Scanned, Failure> {
    let begun = Instant::now();
    // Until the scan is over.
    let stopped = (job.moment == Moment::Stopped).then(|| Stopped::new(job.pid)).transpose()?;
    let blocks = blocks()?;
    let reader = Reader::open(job.pid).map_err(|_gone| Failure::Gone)?;
    let thread = threads::living(job.pid).ok_or(Failure::Gone)?;
    let regions = regions(thread)?;
    let held = kernel_held(thread);
    let is_cut = held.is_cut;
    let threads = match (&job.held, &stopped) {
        (Some(threads), _) => threads.clone(),
        (None, Some(stopped)) => stopped.registers().to_vec(),
        (None, None) => tools.registers(job.pid),
    };
    let are_known = !threads.is_empty() && threads.iter().all(|thread| thread.sp.is_some());
    let words: Vec<u64> =
        threads.iter().flat_map(|thread| thread.words.iter().copied()).chain(held.words).collect();
    let memory = TargetMemory::new(reader, &regions, &threads, job.rate, job.limit, stop);
    let mut memory = memory.with_all_known(job.all_known);
    let marked = heap::scan(&mut memory, blocks, &words, how)?;
    if memory.reader().is_gone() {
        return Err(Failure::Gone);
    }
    if memory.reader().is_refused() {
        return Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied).into());
    }
    if memory.cut {
        return Err(Failure::Cut);
    }
    let figures = memory.reader().figures();
    let saw_all = !is_cut && figures.bytes_swapped == 0;
    Ok(Scanned {
        marked,
        words: Words { threads },
        regions,
        read: figures.bytes_read,
        skipped: figures.bytes_swapped + figures.bytes_unreadable,
        complete: are_known && saw_all,
        saw_all,
        took: begun.elapsed(),
    })
}

/// The live blocks of a process that were allocated at certain times. Those from before a gap are left out: they may have been
/// freed unseen, and what is there now may hold pointers.
fn blocks(live: &LiveReader, job: &Job, known: &Range<Duration>) -> Result<Blocks, Failure> {
    let mut collected = Collected::new();
    live.for_each(job.target, |block| {
        if known.contains(&block.time) {
            collected.add(block.address, block.sample.size());
        }
    })?;
    let number = collected.len();
    collected.finish().ok_or(Failure::Blocks(number))
}

/// Whether each of some blocks is still there: those that were scanned last.
fn present(
    live: &LiveReader,
    job: &Job,
    known: &Range<Duration>,
    marked: &Marked,
) -> Result<Vec<bool>, Failure> {
    let mut present = vec![false; marked.blocks().len()];
    live.for_each(job.target, |block| {
        if let Some(number) = marked.blocks().beginning_at(block.address)
            && let Some(present) = present.get_mut(number as usize)
        {
            *present |= known.contains(&block.time);
        }
    })?;
    Ok(present)
}

/// What the scans of a check say.
struct Verdict<'a> {
    /// The first, of all blocks.
    first: &'a Marked,
    /// The last, of those that none before has reached. `None`: all have been reached.
    last: Option<&'a Marked>,
    /// Whether those that it has not reached either are lost; otherwise nothing is said of them.
    is_final: bool,
}

impl Verdict<'_> {
    /// What they say of a block, by its number in the first.
    fn of(&self, block: &Live, number: u32) -> Option<Found> {
        match self.first.state(number) {
            State::Reachable => return Some(Found::Reachable),
            State::Possibly => return Some(Found::Possibly),
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
    sampled: &mut Sampled,
) -> Result<Count, Failure> {
    let mut count = Count::default();
    live.for_each(job.target, |block: Live| {
        let number = verdict.first.blocks().beginning_at(block.address);
        if let Some(number) = number.filter(|number| !verdict.first.is_lost(*number)) {
            sampled.add(block.slot, number);
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
fn wait(time: Duration, stop: &AtomicBool) -> Result<(), Failure> {
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
fn cpu_time() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from)
}
