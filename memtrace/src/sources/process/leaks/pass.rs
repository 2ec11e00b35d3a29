//! One scan of the memory of a process.

use std::{
    ops::Range,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use super::{check::Failure, memory::TargetMemory, owners::Words, recount::Recount};
use crate::{
    heap::{
        self, Blocks, How, Marked, Pending, Young,
        census::{Allocator, Visit},
    },
    model::ThreadRegisters,
    profile::LeakCheck,
    sources::process::census,
    target::{
        memory::{Reader, Region, kernel_held, regions},
        threads,
    },
};

/// Memory in which what is in no block is free: no root.
#[derive(Clone, Debug)]
pub(in crate::sources::process) enum Free {
    /// None is known.
    Unknown,
    /// All memory of glibc's allocator: every block of it is known, and no other allocator is used.
    Glibc,
    /// These ranges of an allocator, in order.
    Ranges(Allocator, Vec<Range<u64>>),
}

impl Free {
    /// Where the ranges begin or end next, behind an address.
    pub(super) fn next_bound(&self, at: u64) -> u64 {
        let next = self.next(at);
        next.map_or(u64::MAX, |next| if next.start > at { next.start } else { next.end })
    }

    /// Whether an address is in one of the ranges.
    pub(super) fn contains(&self, at: u64) -> bool {
        self.next(at).is_some_and(|range| range.contains(&at))
    }

    /// The allocator that said so.
    pub(super) fn allocator(&self) -> Option<Allocator> {
        let Self::Ranges(allocator, _) = self else { return None };
        Some(*allocator)
    }

    /// Whether an address of memory within these bounds is before or behind all ranges there: where the allocator grows.
    pub(super) fn is_beside(&self, at: u64, bounds: &Range<u64>) -> bool {
        let Self::Ranges(_, ranges) = self else { return false };
        let is_here = |range: &&Range<u64>| range.start < bounds.end && range.end > bounds.start;
        let (before, behind) = ranges.split_at(ranges.partition_point(|range| range.end <= at));
        let is_before = before.last().filter(is_here).is_some();
        let is_behind = behind.first().filter(is_here).is_some();
        is_before != is_behind && !self.contains(at)
    }

    /// The first range that ends behind an address.
    fn next(&self, at: u64) -> Option<&Range<u64>> {
        let Self::Ranges(_, ranges) = self else { return None };
        ranges.get(ranges.partition_point(|range| range.end <= at))
    }
}

/// How to scan, and what.
pub(in crate::sources::process) struct Pass<'a> {
    pub(in crate::sources::process) pid: u32,
    /// Registers of its threads; empty if they are not known.
    pub(in crate::sources::process) threads: Vec<ThreadRegisters>,
    pub(in crate::sources::process) how: How,
    /// With `how.others`, the allocator is asked what is free once the memory has been read.
    pub(in crate::sources::process) free: Free,
    /// Bytes read per second; 0 for no limit.
    pub(in crate::sources::process) rate: u64,
    /// The most time that it may take.
    pub(in crate::sources::process) limit: Duration,
    pub(in crate::sources::process) stop: &'a AtomicBool,
}

/// The result.
pub(in crate::sources::process) struct Scanned {
    pub(in crate::sources::process) marked: Marked,
    pub(in crate::sources::process) words: Words,
    pub(in crate::sources::process) regions: Vec<Region>,
    pub(in crate::sources::process) read: u64,
    pub(in crate::sources::process) skipped: u64,
    pub(in crate::sources::process) complete: bool,
    /// Whether no memory was swapped out, and all words that the kernel shows were read.
    pub(in crate::sources::process) saw_all: bool,
    /// What the allocator said after it, if it was to be asked.
    pub(in crate::sources::process) recount: Option<Result<Recount, census::Failure>>,
}

impl Scanned {
    /// Adds a scan that began at that time to what is known of a check.
    pub(in crate::sources::process) fn add_to(&self, check: &mut LeakCheck, begun: Instant) {
        check.scans += 1;
        check.took += begun.elapsed();
        check.read += self.read;
        check.skipped = check.skipped.max(self.skipped);
        check.complete &= self.complete;
    }
}

impl Pass<'_> {
    /// Scans the memory: which of these blocks can be reached?
    ///
    /// # Errors
    /// It was cut short, or the memory cannot be read, or that of the agent does not suffice.
    pub(in crate::sources::process) fn run(self, blocks: Blocks) -> Result<Scanned, Failure> {
        let Self { pid, threads, how, free, rate, limit, stop } = self;
        let reader = Reader::open(pid).map_err(|_gone| Failure::Gone)?;
        let thread = threads::living(pid).ok_or(Failure::Gone)?;
        let regions = regions(thread)?;
        let held = kernel_held(thread);
        let (is_cut, epoll) = (held.is_cut, held.epoll);
        let are_known = !threads.is_empty() && threads.iter().all(|thread| thread.sp.is_some());
        let words: Vec<u64> =
            threads.iter().flat_map(|thread| thread.words.iter().copied()).chain(held.words).collect();
        let allocator = free.allocator();
        let memory = TargetMemory::new(reader, &regions, &threads, rate, limit, stop);
        let mut memory = memory.with_free(free, how.young);
        let mut pending = heap::scan(&mut memory, blocks, &words, how)?;
        memory.check()?;
        if let Some(allocator) = allocator
            && pending.wants_young()
        {
            match young(pid, allocator, &pending) {
                Ok(Some(young)) => pending.through(young, &mut memory),
                Ok(None) => {}
                Err(error) => tracing::debug!("no census of process {pid}: {error}"),
            }
            memory.check()?;
        }
        let figures = memory.reader().figures();
        let saw_all = !is_cut && figures.bytes_swapped == 0;
        let asked = allocator.filter(|_| how.others);
        let recount = asked.map(|allocator| Recount::take(pid, allocator, &pending));
        let marked = pending.decide(|place, at| match &recount {
            Some(Ok(recount)) => recount.is_root(place, at),
            // Anything may hold a pointer.
            Some(Err(_)) | None => true,
        });
        Ok(Scanned {
            marked,
            words: Words { threads, epoll },
            regions,
            read: figures.bytes_read,
            skipped: figures.bytes_swapped + figures.bytes_unreadable,
            complete: are_known && saw_all,
            saw_all,
            recount,
        })
    }
}

/// The blocks that an allocator of the process has handed out since a scan began.
fn young(pid: u32, allocator: Allocator, pending: &Pending) -> Result<Option<Blocks>, census::Failure> {
    let mut young = Young::new(pending);
    census::take(pid, allocator, |visit| match visit {
        Visit::Block(block) => young.add(block.address, block.size),
        Visit::Again => young.clear(),
    })?;
    Ok(young.finish())
}

#[cfg(test)]
mod tests {
    use super::Free;
    use crate::heap::census::Allocator;

    #[test]
    fn free_memory_begins_and_ends() {
        let free = Free::Ranges(Allocator::Glibc, vec![0x1000..0x2000, 0x2000..0x3000, 0x8000..0x9000]);
        for (at, bound, is_free) in [
            (0, 0x1000, false),
            (0x1000, 0x2000, true),
            (0x1ff8, 0x2000, true),
            (0x2000, 0x3000, true),
            (0x3000, 0x8000, false),
            (0x8ff8, 0x9000, true),
            (0x9000, u64::MAX, false),
        ] {
            assert_eq!((free.next_bound(at), free.contains(at)), (bound, is_free), "{at:#x}");
        }
        for (at, bounds, is_beside) in [
            (0x800, 0x800..0x4000, true),
            (0x1000, 0x800..0x4000, false),
            (0x3000, 0x800..0x4000, true),
            (0x3000, 0x800..0x9000, false),
            (0x5000, 0x4000..0x6000, false),
            (0x9000, 0x8000..0xa000, true),
        ] {
            assert_eq!(free.is_beside(at, &bounds), is_beside, "{at:#x} {bounds:x?}");
        }
        for free in [Free::Unknown, Free::Glibc] {
            assert_eq!((free.next_bound(0x1000), free.contains(0x1000)), (u64::MAX, false));
        }
    }
}
