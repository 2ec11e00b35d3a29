//! The verdict on a process.

use std::time::Duration;

use super::{Sample, noise, slope_of, span_of, total};
use crate::profile::{Amount, Balance, Course, Knowledge, Parts, Standing, ThreadStacks};

/// The most that glibc keeps of stacks of threads that have ended: `DEFAULT_STACK_CACHE_MAXSIZE` (nptl/allocatestack.c).
const STACKS_KEPT: u64 = 40 << 20;
/// Stacks by which those of ended threads must have grown of late, if they are fewer bytes than that.
const STACKS_MORE: f64 = 3.0;
/// Untouched address space that a program may reserve without being worth a word, and the least number of ranges.
const RESERVED: f64 = (16 << 20) as f64;
const RANGES: u64 = 4;
/// What an allocator keeps of a growth that is over is worth a word from here on.
const KEPT: f64 = (16 << 20) as f64;
/// Shared memory of a cgroup that is worth a word: others use it too.
const SHARED: f64 = (4 << 20) as f64;
/// A process that has written this part of it, to whatever, may have filled it.
const WRITTEN: f64 = 0.5;
/// Blocks that do not grow all the time must have grown in so many steps, the last of them after this part of the time (if each
/// doubles them, half of the time passes before the next), by this part of all growth.
const STEPS: u32 = 2;
const SINCE: f64 = 0.4;
const STEPPED: f64 = 0.5;
/// The part of the growth that is most of it.
const MOST: f64 = 0.5;
/// What is left at the end is less than this part of how much blocks had grown: most of that was freed.
const LEFT: f64 = 0.5;
/// Growth slows down if the second half has less than this part of the first's.
const SLOW: f64 = 0.4;

/// Before there is enough to tell.
pub(super) fn early(balance: &Balance) -> Standing {
    if balance.lost > 0 { Standing::Leak } else { Standing::TooEarly }
}

/// The verdict together with those on stacks. They are judged by the lives of their blocks, which shows a leak before memory
/// does, and whatever a garbage collector does to it.
pub(super) fn with_stacks((standing, course): (Standing, Course), balance: &Balance) -> (Standing, Course) {
    match standing {
        Standing::NoLeak | Standing::TooEarly if balance.growing.blocks > 0 => {
            (Standing::Leak, Course::Growing)
        }
        _ => (standing, course),
    }
}

/// The verdict on a process that has ended: only what was outstanding then can have leaked, however it had grown before. `peak`: the
/// most bytes of blocks that were seen outstanding at once.
pub(super) fn at_end(balance: &Balance, left: Amount, peak: u64) -> Standing {
    if balance.lost > 0 || balance.growing.blocks > 0 {
        return Standing::Leak;
    }
    let grown = match balance.knowledge {
        Knowledge::Counted | Knowledge::Sampled => balance.grown.blocks,
        // What is left is a part of what was seen.
        Knowledge::AtMost | Knowledge::Measured => peak as f64,
    };
    match balance.standing {
        Standing::Leak if (left.bytes as f64) < LEFT * grown => Standing::NoLeak,
        Standing::Leak | Standing::TooEarly if left.blocks == 0 => Standing::NoLeak,
        standing => standing,
    }
}

/// The verdict on all samples, and on those of late.
pub(super) fn verdict(
    samples: &[(Duration, Sample)],
    recent: &[(Duration, Sample)],
    balance: &Balance,
) -> (Standing, Course) {
    let figures = Figures { samples, recent, noise: noise(&balance.resident), balance };
    if balance.lost > 0 {
        return (Standing::Leak, figures.course(|sample| sample.blocks.bytes));
    }
    // What grows now matters more than what grew once.
    let all = figures.course(total);
    let is_growing = all == Course::Growing;
    let in_steps = is_growing && figures.grow_in_steps();
    let seconds = span_of(recent).as_secs_f64();
    let of_late = scaled(&balance.rate, seconds);
    let (parts, is_whole) = if is_growing && !in_steps && of_late.total >= figures.noise {
        (of_late, false)
    } else {
        (balance.grown, true)
    };
    let leaking = balance.leaking * if is_whole { span_of(samples).as_secs_f64() } else { seconds };
    // Stacks that no thread uses take hardly any memory, but they are never given back: they go last only where others make up most
    // of what grows.
    let others = parts.blocks.max(leaking).max(parts.mapped);
    if balance.stacks.unjoined && (parts.total < figures.noise || others < MOST * parts.total) {
        return (Standing::Threads, figures.course(|sample| sample.stack_ranges.bytes));
    }
    if parts.total < figures.noise {
        return figures.hidden();
    }
    let at_rest = if is_growing { Course::Filling } else { Course::Flat };
    // What is inferred may be memory that it had at the start, gave back and takes again: no growth.
    let [kept, unexplained] = match is_whole {
        true => [parts.kept, parts.unexplained],
        false => [parts.kept.min(balance.grown.kept), parts.unexplained.min(balance.grown.unexplained)],
    };
    let shmem = figures.grown(|sample| sample.resident.shmem, is_whole);
    let file = parts.shared - shmem;
    let candidates = [
        (parts.blocks.max(leaking), Standing::Leak),
        (kept, Standing::KeptByAllocator),
        (parts.mapped, Standing::Mappings),
        (parts.stacks, Standing::Threads),
        (shmem, Standing::SharedMemory),
        (file, Standing::NoLeak),
        (unexplained, Standing::Unseen),
    ];
    let largest = candidates.into_iter().max_by(|a, b| a.0.total_cmp(&b.0));
    let Some((_, standing)) = largest.filter(|(part, _)| *part > 0.0) else {
        return (Standing::NoLeak, at_rest);
    };
    let course = match standing {
        Standing::Leak => match figures.course(|sample| sample.blocks.bytes) {
            _ if in_steps => all,
            // Windows show some of the blocks, now these and now those.
            Course::Flat if balance.knowledge == Knowledge::AtMost && is_growing => all,
            Course::Flat => at_rest,
            course => course,
        },
        Standing::Mappings => figures.course(|sample| sample.mapped_ranges.bytes),
        Standing::Threads => figures.course(|sample| sample.stack_ranges.bytes),
        Standing::SharedMemory => figures.course(|sample| sample.resident.shmem),
        _ => figures.course(total),
    };
    match (standing, course) {
        (Standing::KeptByAllocator, Course::Flat) if parts.kept < KEPT => (Standing::NoLeak, course),
        // It grew once, as most programs do when they start.
        (
            Standing::Leak | Standing::Mappings | Standing::Threads,
            Course::Flat | Course::Slowing | Course::Filling,
        ) => (Standing::NoLeak, course),
        _ => (standing, course),
    }
}

struct Figures<'a> {
    samples: &'a [(Duration, Sample)],
    recent: &'a [(Duration, Sample)],
    noise: f64,
    balance: &'a Balance,
}

impl Figures<'_> {
    /// Growth of a figure since tracing began, or of late.
    fn grown(&self, figure: impl Fn(&Sample) -> u64, is_whole: bool) -> f64 {
        let samples = if is_whole { self.samples } else { self.recent };
        let at =
            |sample: Option<&(Duration, Sample)>| sample.map_or(0.0, |(_, sample)| figure(sample) as f64);
        at(samples.last()) - at(samples.first())
    }

    /// How a figure has moved of late.
    fn course(&self, figure: impl Fn(&Sample) -> u64) -> Course {
        let rate = |samples| slope_of(samples, &figure).unwrap_or_default();
        let seconds = span_of(self.recent).as_secs_f64();
        let late = rate(self.recent);
        if late.low <= 0.0 || late.median * seconds < self.noise {
            return Course::Flat;
        }
        let half = self.samples.len() / 2;
        let (before, after) = self.samples.split_at_checked(half).unwrap_or((self.samples, &[]));
        let (before, after) = (rate(before).median, rate(after).median);
        if after < before * SLOW { Course::Slowing } else { Course::Growing }
    }

    /// Whether blocks grow rarely and make up most of the growth nevertheless: a buffer that doubles whenever it is full does,
    /// and memory grows all the time as it is filled.
    fn grow_in_steps(&self) -> bool {
        let Some(&(begin, first)) = self.samples.first() else { return false };
        let (mut most, mut steps, mut last) = (first.blocks.bytes as f64, 0, begin);
        for (at, sample) in self.samples {
            let bytes = sample.blocks.bytes as f64;
            if bytes > most + self.noise {
                (steps, last) = (steps + 1, *at);
            }
            most = most.max(bytes);
        }
        let is_recent =
            last.saturating_sub(begin).as_secs_f64() >= SINCE * span_of(self.samples).as_secs_f64();
        steps >= STEPS && is_recent && self.balance.grown.blocks >= STEPPED * self.balance.grown.total
    }

    /// Whether the process may have written so much to a tmpfs, for the most part: other processes of its cgroup use it too.
    fn may_have_written(&self, bytes: f64) -> bool {
        let is_known = self.samples.iter().all(|(_, sample)| sample.written.is_some());
        !is_known || self.grown(|sample| sample.written.unwrap_or_default(), true) >= WRITTEN * bytes
    }

    /// Nothing resident grows: what does not show there?
    fn hidden(&self) -> (Standing, Course) {
        let ranges = self.balance.mapped_ranges >= RANGES
            && self.grown(|sample| sample.mapped_ranges.blocks, false) >= RANGES as f64 / 2.0
            && self.grown(|sample| sample.mapped_ranges.bytes, false) >= RESERVED;
        let course = self.course(|sample| sample.mapped_ranges.bytes);
        if ranges && course == Course::Growing {
            return (Standing::Mappings, course);
        }
        let tables = self.course(|sample| sample.resident.page_tables);
        if tables == Course::Growing && self.balance.is_of_page_tables() {
            return (Standing::Unseen, tables);
        }
        let of_cgroup = |sample: &Sample| sample.cgroup.first().copied().unwrap_or_default();
        let shmem = self.course(of_cgroup);
        let grown = self.grown(of_cgroup, true);
        if shmem != Course::Flat && grown >= SHARED && self.may_have_written(grown) {
            return (Standing::SharedMemory, shmem);
        }
        (Standing::NoLeak, Course::Flat)
    }
}

/// Whether stacks of ended threads cannot be what the C library keeps for the next ones: they are more than it keeps, or
/// new ones were mapped though those were there.
pub(super) fn are_unjoined(recent: &[(Duration, Sample)], stacks: &ThreadStacks) -> bool {
    let ended = |sample: &Sample| sample.stack_ranges.blocks.saturating_sub(sample.threads);
    let more = |(first, last): (u64, u64)| last as f64 - first as f64;
    let grown = recent.first().zip(recent.last()).map(|((_, first), (_, last))| (ended(first), ended(last)));
    stacks.ended_bytes > STACKS_KEPT
        || stacks.ended as f64 >= STACKS_MORE && grown.is_some_and(|grown| more(grown) >= STACKS_MORE)
}

fn scaled(parts: &Parts, by: f64) -> Parts {
    Parts {
        total: parts.total * by,
        blocks: parts.blocks * by,
        mapped: parts.mapped * by,
        stacks: parts.stacks * by,
        kept: parts.kept * by,
        shared: parts.shared * by,
        unexplained: parts.unexplained * by,
    }
}
