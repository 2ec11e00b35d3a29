//! A census of a live process: the memory of a target as [`crate::heap::census`] reads it.

#[cfg(test)]
mod tests;

use std::{io, ops::Range};

use crate::{
    analysis::balance::HeapSize,
    heap::{
        Blocks, Collected,
        census::{self, Allocator, Census, Peek, Refused, Visit},
    },
    profile::{Amount, HeapArena, Kept},
    target::{
        memory::{Kind, Reader, Region, regions},
        threads, usage,
    },
};

/// Allocators whose heaps are read, and the names that allocators are found by.
pub(super) const GLIBC: [&str; 2] = ["glibc", "libc (static)"];
pub(super) const JEMALLOC: [&str; 2] = ["jemalloc", "jemalloc (static)"];

/// How often a heap is looked at that is not understood: it changes while it is read.
const ATTEMPTS: usize = 3;
/// Words that are few: the pages that they are in are looked up for them alone.
const FEW: usize = 512;
/// Bytes of a page. Where pages are larger, one is looked up more than once.
const PAGE: u64 = 4096;

/// Why there is no census.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The memory cannot be read.
    #[error("its memory cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// The process is gone, or has become another program.
    #[error("the process is gone")]
    Gone,
    /// There is no heap that is understood.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The memory that a scan may use does not suffice.
    #[error("too many blocks, or too far apart: {0}")]
    Blocks(usize),
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        // Its memory goes a little before it has exited.
        let is_gone = error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH);
        if is_gone { Self::Gone } else { Self::Unreadable(error) }
    }
}

/// All blocks of the process `pid`, which goes on meanwhile. `allocator`: of this allocator; `None`: of the one that has most of
/// them.
///
/// # Errors
/// See [`Failure`].
pub(super) fn collect(pid: u32, allocator: Option<Allocator>) -> Result<(Census, Blocks), Failure> {
    let (census, collected) = collected(pid, allocator)?;
    let number = collected.len();
    let blocks = collected.finish().ok_or(Failure::Blocks(number))?;
    Ok((census, blocks))
}

/// The same before they are numbered: others may be added.
///
/// # Errors
/// See [`Failure`].
pub(super) fn collected(pid: u32, allocator: Option<Allocator>) -> Result<(Census, Collected), Failure> {
    if let Some(allocator) = allocator {
        return collected_of(pid, allocator);
    }
    let jemalloc = match collected_of(pid, Allocator::Jemalloc) {
        Err(Failure::Refused(refused)) => Err(refused),
        other => Ok(other?),
    };
    let (census, collected) = match jemalloc {
        Ok(found) => found,
        Err(refused) => {
            return match collected_of(pid, Allocator::Glibc) {
                // What was found and not understood is the better reason.
                Err(Failure::Refused(Refused::NoHeap)) => Err(refused.into()),
                result => result,
            };
        }
    };
    // Libraries bring allocators of their own.
    match in_use(pid, Allocator::Glibc) {
        Some(glibc) if glibc.bytes > total(&census).bytes => collected_of(pid, Allocator::Glibc),
        _ => Ok((census, collected)),
    }
}

fn collected_of(pid: u32, allocator: Allocator) -> Result<(Census, Collected), Failure> {
    let mut collected = Collected::new();
    let census = take(pid, allocator, |visit| match visit {
        Visit::Block(block) => collected.add(block.address, block.size),
        Visit::Again => collected = Collected::new(),
    })?;
    Ok((census, collected))
}

/// What the program has of all allocators, and what these keep. `None`: that is not known, or glibc's heaps are more than `most`
/// resident bytes: each of its blocks has to be visited. `has_glibc`: whether the process uses its allocator.
pub(super) fn measure(pid: u32, has_glibc: bool, most: u64) -> Option<HeapSize> {
    let of = |allocator| match take(pid, allocator, |_| ()) {
        Ok(census) => size(&census),
        Err(Failure::Refused(Refused::NoHeap)) => Some(HeapSize::default()),
        Err(error) => {
            tracing::debug!("no census of process {pid}: {error}");
            None
        }
    };
    let jemalloc = of(Allocator::Jemalloc)?;
    if !has_glibc {
        return Some(jemalloc);
    }
    let others = usage::private(pid)?.saturating_sub(jemalloc.in_use.bytes.saturating_add(jemalloc.kept));
    let glibc = (others <= most).then(|| of(Allocator::Glibc)).flatten()?;
    Some(HeapSize {
        in_use: jemalloc.in_use.plus(glibc.in_use),
        kept: jemalloc.kept.saturating_add(glibc.kept),
    })
}

/// What the program has of an allocator. `None`: that is not known.
pub(super) fn in_use(pid: u32, allocator: Allocator) -> Option<Amount> {
    take(pid, allocator, |_| ()).ok().map(|census| total(&census))
}

/// What the program has.
fn total(census: &Census) -> Amount {
    let arenas = census.arenas.iter().map(|arena| amount(arena.in_use));
    arenas.fold(amount(census.mapped), Amount::plus)
}

/// What the program has, and what the allocator keeps of freed memory; `None` if not all could be walked.
fn size(census: &Census) -> Option<HeapSize> {
    let kept = arenas(census).iter().map(|arena| arena.kept.bytes().saturating_sub(arena.kept.absent)).sum();
    census.missed.is_walked().then(|| HeapSize { in_use: total(census), kept })
}

/// What arenas have.
pub(super) fn arenas(census: &Census) -> Vec<HeapArena> {
    let arenas = census.arenas.iter().map(|arena| HeapArena {
        is_main: arena.is_main,
        in_use: amount(arena.in_use),
        kept: Kept {
            top: arena.top,
            bins: arena.in_bins.bytes,
            fastbins: arena.in_fastbins.bytes,
            caches: arena.in_caches.bytes,
            dirty: arena.dirty,
            muzzy: arena.muzzy,
            retained: arena.retained,
            absent: arena.absent,
            trimmable: arena.trimmable,
        },
    });
    arenas.collect()
}

pub(super) fn amount(amount: census::Amount) -> Amount {
    Amount { bytes: amount.bytes, blocks: amount.blocks }
}

/// Visits every block of the process `pid` that is of one allocator, while it goes on: see [`census::census`].
///
/// # Errors
/// See [`Failure`]. Blocks that were visited before are worth nothing.
pub(super) fn take(pid: u32, allocator: Allocator, mut visit: impl FnMut(Visit)) -> Result<Census, Failure> {
    for _ in 1..ATTEMPTS {
        let mut has_visited = false;
        let result = try_to_take(pid, allocator, |visited| {
            has_visited = true;
            visit(visited);
        });
        match result {
            Err(Failure::Refused(Refused::Unknown(why))) if !has_visited => {
                tracing::debug!("census of process {pid}: {why}; once more");
            }
            result => return result,
        }
    }
    try_to_take(pid, allocator, visit)
}

fn try_to_take(pid: u32, allocator: Allocator, mut visit: impl FnMut(Visit)) -> Result<Census, Failure> {
    let mut memory = TargetMemory::open(pid)?;
    let regions = memory.regions();
    let result = match allocator {
        Allocator::Glibc => census::census(&mut memory, &regions, visit),
        Allocator::Jemalloc => census::jemalloc(&mut memory, &regions, |block| visit(Visit::Block(block))),
    };
    if memory.parts.is_gone() || memory.words.is_gone() {
        return Err(Failure::Gone);
    }
    if memory.parts.is_refused() || memory.words.is_refused() {
        return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
    }
    Ok(result?)
}

/// The memory of a process. No page is brought in.
pub(super) struct TargetMemory {
    /// Reads large parts, and remembers which pages are present.
    parts: Reader,
    /// Reads a few words.
    words: Reader,
    /// In order of address.
    regions: Vec<Region>,
}

impl TargetMemory {
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let thread = threads::living(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        let mut regions = regions(thread)?;
        // What an arena reserves is not part of its heap yet.
        regions.retain(|region| region.kind != Kind::Hidden);
        Ok(Self { parts: Reader::open(pid)?, words: Reader::open(pid)?, regions })
    }

    /// What may hold something of an allocator's.
    fn regions(&self) -> Vec<census::Region> {
        let regions = self.regions.iter().filter(|region| region.writable && !region.shared);
        let regions = regions.filter_map(|region| {
            let kind = match region.kind {
                Kind::Heap => census::Kind::Heap,
                Kind::Anonymous => census::Kind::Anonymous,
                Kind::FilePrivate => census::Kind::File,
                Kind::MainStack | Kind::FileShared | Kind::SharedMemory | Kind::Hidden => return None,
            };
            Some(census::Region { range: region.range.clone(), kind })
        });
        regions.collect()
    }

    /// The first region that ends behind an address.
    fn place(&self, address: u64) -> usize {
        self.regions.partition_point(|region| region.range.end <= address)
    }

    /// The pages of some words as a region of their own, so that they are looked up anew.
    fn pages(&self, address: u64, words: usize) -> Option<Region> {
        let end = address.checked_add(words as u64 * 8)?;
        // The main thread's stack is last. Of what is no address the kernel would tell nothing.
        self.regions.last().filter(|last| end <= last.range.end)?;
        let range = address & !(PAGE - 1)..end.checked_next_multiple_of(PAGE)?;
        let region = self.regions.get(self.place(address))?;
        // Memory that was not there when the regions were read is the allocator's newest.
        let kind = if region.range.contains(&address) { region.kind } else { Kind::Anonymous };
        Some(Region { range, kind, ..region.clone() })
    }
}

/// Reads words of a region, zeros for pages that are not present. Returns how many of them are before the end of the region,
/// and before the first of these pages.
fn fill(reader: &mut Reader, region: &Region, address: u64, words: &mut [u64]) -> (usize, usize) {
    let count = (region.range.end.saturating_sub(address) / 8).min(words.len() as u64) as usize;
    let index = |at: u64| ((at.saturating_sub(address) / 8) as usize).min(count);
    let (mut done, mut whole) = (0, None);
    while done < count {
        let at = address + done as u64 * 8;
        let run = reader.next_run(region, at).unwrap_or(u64::MAX..u64::MAX);
        let start = index(run.start);
        if start > done {
            whole.get_or_insert(done);
            words.get_mut(done..start).unwrap_or_default().fill(0);
            done = start;
        } else {
            // A page that cannot be read is not in the next run.
            let part = words.get_mut(done..index(run.end)).unwrap_or_default();
            done += reader.read(at, part) / 8;
        }
    }
    (count, whole.unwrap_or(count))
}

impl Peek for TargetMemory {
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize {
        if words.len() <= FEW {
            let Some(pages) = self.pages(address, words.len()) else { return 0 };
            let region = self.regions.get(self.place(address));
            let is_known = region.is_some_and(|region| region.range.contains(&address));
            let (count, whole) = fill(&mut self.words, &pages, address, words);
            return if is_known { count } else { whole };
        }
        let mut done = 0;
        while let Some(rest) = words.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = address + done as u64 * 8;
            let place = self.place(at);
            match self.regions.get(place).filter(|region| region.range.contains(&at)) {
                Some(region) => done += fill(&mut self.parts, region, at, rest).0,
                None if done == 0 => {
                    let Some(pages) = self.pages(at, rest.len()) else { break };
                    return fill(&mut self.words, &pages, at, rest).1;
                }
                None => break,
            }
        }
        done
    }

    fn read_anew(&mut self, address: u64, words: &mut [u64]) -> usize {
        let Some(pages) = self.pages(address, words.len()) else { return 0 };
        fill(&mut self.words, &pages, address, words).1
    }

    fn present(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let place = self.place(range.start);
        let regions = self.regions.get(place..)?.iter().take_while(|region| region.range.start < range.end);
        let mut runs = regions.filter_map(|region| {
            let from = range.start.max(region.range.start);
            let run = self.parts.next_run(region, from)?;
            let run = run.start.max(from)..run.end.min(range.end);
            (!run.is_empty()).then_some(run)
        });
        runs.next()
    }
}
