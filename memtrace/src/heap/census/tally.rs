//! Tells blocks from free chunks, and counts both by arena.

use std::ops::Range;

use super::{
    arenas,
    caches::{self, Candidates, Keyed, Keys, Samples},
    fastbins::Fastbins,
    figures::{Allocator, Amount, Arena, Block, Census, Missed},
    layout::{HEADER, HEAP_MAX, Layout, OVERLAP, arena},
    memory::Peek,
    pages::FreePages,
    spans::{Span, Spans},
    walk::{Chunk, Sink, Walked},
    window::Window,
};

/// Blocks with a key at most.
const MOST_KEYED: usize = 1 << 22;

/// What was counted so far.
pub(super) struct Tally<'a, V> {
    arenas: Vec<Arena>,
    /// The arena that is walked: its number and its figures.
    number: usize,
    current: Arena,
    fastbins: &'a Fastbins,
    /// The next chunk of a fast bin.
    next: usize,
    keys: Keys,
    keyed: Vec<Keyed>,
    candidates: Candidates,
    /// What was found in caches while there is no key.
    samples: Samples,
    /// Blocks of one size in a cache at most.
    cached_most: u64,
    missed: Missed,
    free: FreePages,
    own: Vec<Range<u64>>,
    visit: &'a mut V,
}

impl<'a, V: FnMut(Block)> Tally<'a, V> {
    pub(super) fn new(
        ring: &[arenas::Arena],
        spans: &Spans,
        fastbins: &'a Fastbins,
        keys: Keys,
        cached_most: u64,
        visit: &'a mut V,
    ) -> Self {
        let overhead = spans.overhead.iter().copied().chain(std::iter::repeat(0));
        let arenas = ring.iter().zip(overhead).enumerate().map(|(number, (arena, overhead))| Arena {
            address: arena.address,
            is_main: number == 0,
            system: arena.system,
            found: overhead,
            ..Arena::default()
        });
        Self {
            arenas: arenas.collect(),
            number: 0,
            current: Arena::default(),
            missed: Missed { lists: fastbins.broken, ..Missed::default() },
            fastbins,
            next: 0,
            keys,
            keyed: Vec::new(),
            candidates: Candidates::default(),
            samples: Samples::default(),
            cached_most,
            free: FreePages::default(),
            // The others are in their heaps.
            own: ring.first().map(|main| main.address..main.address + arena::SIZE).into_iter().collect(),
            visit,
        }
    }

    /// What was found in caches, if there was no key.
    pub(super) fn samples(&self) -> &Samples {
        &self.samples
    }

    /// A walk over a span begins.
    pub(super) fn begin(&mut self, span: &Span) {
        self.number = span.arena;
        self.current = self.arenas.get(span.arena).copied().unwrap_or_default();
        self.current.heaps += 1;
        self.next = self.fastbins.chunks.partition_point(|&chunk| chunk < span.range.start);
    }

    /// It ended.
    pub(super) fn end(&mut self, span: &Span, walked: &Walked) {
        self.current.top += walked.top;
        self.current.found += walked.chunks + walked.fenceposts + walked.top;
        self.missed.skipped += walked.skipped;
        self.missed.resumed += walked.resumed;
        self.missed.read_again += walked.read_again;
        self.missed.left += walked.left;
        if walked.end > span.range.start {
            let top = walked.end.saturating_sub(walked.top)..walked.end;
            self.free.top(top, self.number, self.current.is_main);
            let mut start = if span.is_heap { span.range.start & !(HEAP_MAX - 1) } else { span.range.start };
            for unknown in &walked.unknown {
                self.own.extend((start < unknown.start).then_some(start..unknown.start));
                start = start.max(unknown.end);
            }
            self.own.extend((start < walked.end).then_some(start..walked.end));
        }
        if let Some(arena) = self.arenas.get_mut(self.number) {
            *arena = self.current;
        }
    }

    /// Whether a chunk is in a fast bin. They are asked for in order of address.
    #[inline]
    fn is_fast(&mut self, chunk: u64) -> bool {
        while let Some(&next) = self.fastbins.chunks.get(self.next) {
            if next >= chunk {
                return next == chunk;
            }
            self.next += 1;
        }
        false
    }

    /// All spans were walked: decides about blocks with a key.
    pub(super) fn finish(mut self, memory: &mut impl Peek, layout: &Layout) -> Census {
        self.keyed.sort_unstable_by_key(|keyed| keyed.address);
        // A walk that went back may have seen one twice.
        self.keyed.dedup_by_key(|keyed| keyed.address);
        let (caches, broken) =
            caches::resolve(memory, &self.candidates, layout, &self.keys, self.cached_most, &mut self.keyed);
        self.missed.lists += broken;
        for keyed in &self.keyed {
            let Some(arena) = self.arenas.get_mut(keyed.arena) else { continue };
            if keyed.is_cached {
                arena.in_caches.add(keyed.chunk);
            } else if !caches::is_in_use(memory, keyed) {
                arena.in_bins.add(keyed.chunk);
            } else {
                self.missed.uncached += 1;
                let size = keyed.chunk - OVERLAP;
                arena.in_use.add(size);
                (self.visit)(Block { address: keyed.address, size });
            }
        }
        self.free.count(memory, &mut self.arenas);
        self.own.sort_unstable_by_key(|range| range.start);
        // None overlap, unless the memory is made to mislead.
        let mut end = 0;
        self.own.retain(|range| {
            let is_apart = range.start >= end;
            end = end.max(range.end);
            is_apart
        });
        let differing = self.arenas.iter().map(|arena| arena.system.abs_diff(arena.found));
        self.missed.unexplained = differing.fold(0, u64::saturating_add);
        Census {
            allocator: Allocator::Glibc,
            releases: layout.releases,
            arenas: self.arenas,
            mapped: Default::default(),
            internal: Amount::default(),
            caches,
            own: self.own,
            missed: self.missed,
        }
    }
}

impl<M: Peek, V: FnMut(Block)> Sink<M> for Tally<'_, V> {
    #[inline]
    fn chunk(&mut self, chunk: &Chunk, in_use: bool, window: &Window, memory: &mut M) {
        if !in_use {
            self.current.in_bins.add(chunk.size);
            self.free.chunk(chunk.address, chunk.size, self.number);
            return;
        }
        if self.is_fast(chunk.address) {
            self.current.in_fastbins.add(chunk.size);
            return;
        }
        let address = chunk.address + HEADER;
        if self.keys.has(chunk.key) && self.keyed.len() < MOST_KEYED {
            let keyed =
                Keyed { address, chunk: chunk.size, link: chunk.link, arena: self.number, is_cached: false };
            self.keyed.push(keyed);
            return;
        }
        if self.candidates.note(chunk, window, self.cached_most) && self.keys == Keys::None {
            self.samples.add(memory, &[address], self.cached_most);
        }
        // The program may use the first word of the next chunk, which only free chunks need.
        let size = chunk.size - OVERLAP;
        self.current.in_use.add(size);
        (self.visit)(Block { address, size });
    }
}
