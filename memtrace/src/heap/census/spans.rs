//! Where the chunks of an arena are: the memory from `brk`, heaps, or what the main arena mapped where `brk` failed.

use std::ops::Range;

use rustc_hash::FxHashSet;

use super::{
    arenas::Arena,
    layout::{ALIGNMENT, HEAP_INFO_WORDS, HEAP_MAX, Layout, arena},
    memory::{Kind, PAGE, Peek, Regions},
};

/// Heaps of an arena at most: 4 TiB of them.
const MOST_HEAPS: usize = 1 << 16;

/// Chunks one after another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// From the first chunk to the end of the last one.
    pub(super) range: Range<u64>,
    /// The number of the arena.
    pub(super) arena: usize,
    /// Whether it is a heap: of an arena other than the main one.
    pub(super) is_heap: bool,
    /// Whether chunks begin at its beginning. Otherwise they have to be looked for.
    pub(super) is_aligned: bool,
}

/// The spans of all arenas.
#[derive(Debug, Default)]
pub(super) struct Spans {
    pub(super) spans: Vec<Span>,
    /// Bytes of each arena that are no chunks: what describes heaps and arenas.
    pub(super) overhead: Vec<u64>,
    /// Memory in which there are no chunks that are mappings of their own, in order.
    pub(super) covered: Vec<Range<u64>>,
    /// Chains of heaps that did not end.
    pub(super) broken: u64,
}

/// Finds the spans of all arenas, the main one first.
pub(super) fn find<M: Peek>(
    memory: &mut M,
    regions: &Regions,
    arenas: &[Arena],
    sbrk_base: u64,
    layout: &Layout,
) -> Spans {
    let mut all = Spans { overhead: vec![0; arenas.len()], ..Spans::default() };
    let mut seen = FxHashSet::default();
    for (number, arena) in arenas.iter().enumerate() {
        if number == 0 {
            all.main(regions, arena, sbrk_base);
        } else if !all.heaps(memory, number, arena, layout, &mut seen) {
            all.broken += 1;
        }
    }
    all.spans.sort_by_key(|span| span.range.start);
    all.covered.sort_by_key(|range| range.start);
    all
}

impl Spans {
    /// Those of the main arena.
    fn main(&mut self, regions: &Regions, arena: &Arena, sbrk_base: u64) {
        let first = sbrk_base.next_multiple_of(ALIGNMENT);
        if let Some(region) = regions.at(first).filter(|_| sbrk_base != 0) {
            // It may have grown since the regions were read: a walk looks.
            let range = first..region.range.end;
            self.covered.push(region.range.clone());
            self.spans.push(Span { range, arena: 0, is_heap: false, is_aligned: true });
        }
        // Where `brk` fails, memory is mapped. Where that began is written nowhere.
        let is_covered = self.covered.iter().any(|range| range.contains(&arena.top));
        if let Some(region) =
            regions.at(arena.top).filter(|region| !is_covered && region.kind == Kind::Anonymous)
        {
            let range = region.range.clone();
            self.spans.push(Span { range, arena: 0, is_heap: false, is_aligned: false });
        }
    }

    /// The heaps of another arena, from that of its top chunk back to the first one, in which the arena is. Returns whether
    /// they were all found.
    fn heaps<M: Peek>(
        &mut self,
        memory: &mut M,
        number: usize,
        arena: &Arena,
        layout: &Layout,
        seen: &mut FxHashSet<u64>,
    ) -> bool {
        let mut heap = arena.top & !(HEAP_MAX - 1);
        for _ in 0..MOST_HEAPS {
            let mut words = [0; HEAP_INFO_WORDS];
            if !seen.insert(heap) || memory.read(heap, &mut words) != HEAP_INFO_WORDS {
                return false;
            }
            let [owner, previous, size] = words;
            let is_heap = owner == arena.address
                && size.is_multiple_of(PAGE)
                && (PAGE..=HEAP_MAX).contains(&size)
                && previous.is_multiple_of(HEAP_MAX);
            if !is_heap {
                return false;
            }
            let holds_arena = arena.address - layout.heap_info == heap;
            let first = if holds_arena { arena.address + arena::SIZE } else { heap + layout.heap_info };
            let range = first.next_multiple_of(ALIGNMENT)..heap + size;
            if let Some(overhead) = self.overhead.get_mut(number) {
                *overhead += range.start - heap;
            }
            self.covered.push(heap..heap + HEAP_MAX);
            self.spans.push(Span { range, arena: number, is_heap: true, is_aligned: true });
            if previous == 0 {
                return holds_arena;
            }
            heap = previous;
        }
        false
    }
}
