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
            all.brk(regions, sbrk_base);
        } else if !all.heaps(memory, number, arena, layout, &mut seen) {
            all.broken += 1;
        }
    }
    all.covered.sort_by_key(|range| range.start);
    if arenas.first().is_some_and(|main| main.is_scattered) {
        all.scattered(regions);
    }
    all.spans.sort_by_key(|span| span.range.start);
    // None touch, unless the memory is made to mislead.
    let (mut end, mut broken) = (0, 0);
    all.spans.retain(|span| {
        let is_apart = span.range.start >= end && span.range.start < span.range.end;
        end = end.max(span.range.end);
        broken += u64::from(!is_apart);
        is_apart
    });
    all.broken += broken;
    // What is looked for in other memory comes last: that there is too much of it is to hide nothing else.
    all.spans.sort_by_key(|span| !span.is_aligned);
    all
}

impl Spans {
    /// The memory of the main arena from `brk`.
    fn brk(&mut self, regions: &Regions, sbrk_base: u64) {
        let first = sbrk_base.next_multiple_of(ALIGNMENT);
        if let Some(region) = regions.at(first).filter(|_| sbrk_base != 0) {
            // It may have grown since the regions were read: a walk looks.
            let range = first..region.range.end;
            self.covered.push(region.range.clone());
            self.spans.push(Span { range, arena: 0, is_heap: false, is_aligned: true });
        }
    }

    /// Where `brk` fails, the main arena maps memory. Where that is is written nowhere: anywhere but in heaps.
    fn scattered(&mut self, regions: &Regions) {
        for region in regions.of(Kind::Anonymous) {
            let mut start = region.range.start;
            let place = self.covered.partition_point(|range| range.end <= start);
            let covered = self.covered.get(place..).unwrap_or_default();
            for range in covered.iter().take_while(|range| range.start < region.range.end) {
                self.spans.extend(anywhere(start..range.start));
                start = range.end;
            }
            self.spans.extend(anywhere(start..region.range.end));
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

/// Memory in which the main arena may have chunks.
fn anywhere(range: Range<u64>) -> Option<Span> {
    (range.start < range.end).then_some(Span { range, arena: 0, is_heap: false, is_aligned: false })
}
