//! What a census reads.

use std::ops::Range;

/// The memory of a process, read at any address.
pub trait Peek {
    /// Reads the words from `address` on, a multiple of 8. Pages that are not present, or were not when that was last looked
    /// up, read as zero. Returns how many words were read; the rest is not mapped.
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize;

    /// As [`Peek::read`], with what is there at this moment; what follows a page that is not present is not read.
    fn read_anew(&mut self, address: u64, words: &mut [u64]) -> usize;

    /// The first run of present pages in a range.
    fn present(&mut self, range: Range<u64>) -> Option<Range<u64>>;
}

/// What a region is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// What `brk` made, `[heap]`.
    Heap,
    /// Private, without a file, and no stack that is known as such.
    Anonymous,
    /// A private mapping of a file.
    File,
}

/// A readable and writable mapping that may hold something of the allocator's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// Its addresses.
    pub range: Range<u64>,
    /// What it is.
    pub kind: Kind,
}

/// The regions of a process, in order of address. Neighbours of the same kind are one: after a fork `[heap]` is several.
#[derive(Debug)]
pub(super) struct Regions(Vec<Region>);

impl Regions {
    pub(super) fn new(regions: &[Region]) -> Self {
        let mut sorted = regions.to_vec();
        sorted.sort_by_key(|region| region.range.start);
        let mut joined: Vec<Region> = Vec::new();
        for region in sorted {
            match joined.last_mut() {
                Some(last)
                    if last.kind == region.kind
                        && last.kind != Kind::File
                        && last.range.end == region.range.start =>
                {
                    last.range.end = region.range.end;
                }
                // Overlaps make no sense.
                Some(last) if last.range.end > region.range.start => {}
                _ => joined.push(region),
            }
        }
        Self(joined)
    }

    /// The region that an address is in.
    pub(super) fn at(&self, address: u64) -> Option<&Region> {
        let place = self.0.partition_point(|region| region.range.end <= address);
        self.0.get(place).filter(|region| region.range.contains(&address))
    }

    /// All of them.
    pub(super) fn all(&self) -> impl Iterator<Item = &Region> {
        self.0.iter()
    }

    /// Those of a kind.
    pub(super) fn of(&self, kind: Kind) -> impl Iterator<Item = &Region> {
        self.0.iter().filter(move |region| region.kind == kind)
    }
}

/// Bytes of a page of a [`Cache`], and of them words. The target's may be larger.
pub(super) const PAGE: u64 = 4096;
const WORDS: usize = (PAGE / 8) as usize;
/// Pages of a [`Cache`].
const PAGES: usize = 64;

/// Pages read lately: lists lead from block to block, and neighbours are often freed one after another.
pub(super) struct Cache<'a, M> {
    memory: &'a mut M,
    pages: Vec<CachedPage>,
}

struct CachedPage {
    address: u64,
    count: usize,
    words: Box<[u64]>,
}

impl<'a, M: Peek> Cache<'a, M> {
    pub(super) fn new(memory: &'a mut M) -> Self {
        let page = || CachedPage { address: u64::MAX, count: 0, words: vec![0; WORDS].into_boxed_slice() };
        Self { memory, pages: std::iter::repeat_with(page).take(PAGES).collect() }
    }

    /// The word at an address, a multiple of 8, if it is there.
    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        let start = address & !(PAGE - 1);
        let page = self.pages.get_mut((start / PAGE) as usize % PAGES)?;
        if page.address != start {
            page.address = start;
            page.count = self.memory.read(start, &mut page.words).min(WORDS);
        }
        let place = ((address - start) / 8) as usize;
        page.words.get(..page.count)?.get(place).copied()
    }
}
