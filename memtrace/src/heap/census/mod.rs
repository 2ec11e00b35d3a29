//! Every block of a process whose allocator is glibc's malloc, read from what malloc itself keeps: from outside, while the
//! process runs, without symbols and without a probe. Pure, over the [`Peek`] trait.
//!
//! 1. [`arenas`]: `main_arena` is 127 lists one after another in the data of a file, each of which leads back to itself;
//!    all arenas form a ring. [`parameters`]: `mp_` is near.
//! 2. [`spans`]: each arena has memory from `brk` or heaps, in which chunk follows chunk up to the top chunk.
//! 3. [`caches`]: the layout of threads' caches tells the release ([`layout`]). One that is not known is refused.
//! 4. [`walk`]: the size of a chunk leads to the next one, which says whether it is in use. A chunk in use is a block of
//!    the program's unless it is in a fast bin ([`fastbins`]) or in a cache.
//! 5. [`mapped`]: large blocks are mappings of their own.
//!
//! The result is exact for a process at rest. Of one that runs, a block that is in use all the time is found, and one that is
//! free all the time is not, except for what [`figures::Missed`] counts. The work is bounded whatever the memory holds.

mod arenas;
mod caches;
mod fastbins;
mod figures;
mod jemalloc;
mod layout;
mod mapped;
mod memory;
mod pages;
mod parameters;
mod spans;
mod tally;
#[cfg(test)]
mod tests;
mod walk;
mod window;

pub use figures::{Allocator, Amount, Block, Census, Refused};
pub use memory::{Kind, Peek, Region};

use self::{
    caches::{Keys, Samples, Seek},
    fastbins::Fastbins,
    layout::{KeyKind, Layout, arena},
    memory::Regions,
    parameters::Parameters,
    spans::{Span, Spans},
    tally::Tally,
    walk::{Budget, Walk},
    window::Window,
};

/// In how many parts of arenas, and among how many chunks at their beginnings, caches are looked for, one after another. The
/// last look costs as much as a census.
const LOOKS: [(usize, u64); 3] = [(4, 16), (64, 4096), (usize::MAX, u64::MAX)];

const OTHER_CACHES: Refused = Refused::Unknown("threads have other caches");

/// Visits every block of a process whose allocator is jemalloc, in order of address.
///
/// # Errors
/// There is no heap of jemalloc, or its layout is not a known one.
pub fn jemalloc(
    memory: &mut impl Peek,
    regions: &[Region],
    visit: impl FnMut(Block),
) -> Result<Census, Refused> {
    jemalloc::census(memory, regions, visit)
}

/// What a census tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visit {
    /// A block.
    Block(Block),
    /// All blocks so far are to be forgotten: how free ones are told was found out too late. At most once.
    Again,
}

/// Visits every block of a process, in no particular order, each once unless [`Visit::Again`] says otherwise.
///
/// # Errors
/// There is no heap of glibc's, or its layout is not a known one.
pub fn census(
    memory: &mut impl Peek,
    regions: &[Region],
    mut visit: impl FnMut(Visit),
) -> Result<Census, Refused> {
    let regions = Regions::new(regions);
    let mut mains = arenas::find(memory, &regions).into_iter();
    let main = mains.next().ok_or(Refused::NoHeap)?;
    let ring = arenas::ring(memory, main.address).ok_or(Refused::Unknown("its arenas form no ring"))?;
    let found = parameters::find(memory, &regions, &main.data)
        .ok_or(Refused::Unknown("the parameters of malloc were not found"))?;
    let parameters = found.parameters;
    let mut layouts = found.layouts;
    if let Some(other) = ring.get(1) {
        layouts.retain(|layout| other.address % layout::HEAP_MAX == layout.heap_info);
    }
    let first = *layouts.first().ok_or(Refused::Unknown("heaps begin with something else"))?;
    let spans = spans::find(memory, &regions, &ring, parameters.sbrk_base, first);
    let mut window = Window::new();
    let mut budget = Budget::default();
    let tops: Vec<u64> = ring.iter().map(|found| found.address + arena::TOP).collect();
    let mut walker = Walker { memory, window: &mut window, budget: &mut budget, spans: &spans, tops: &tops };
    let most = parameters.cached_most;
    let (mut layout, mut keys) = walker.layout(&layouts, &parameters)?;
    let mut census = loop {
        let mut fastbins = Fastbins::new();
        for arena in &ring {
            fastbins.read(walker.memory, arena.address, layout);
        }
        fastbins.complete();
        let mut each = |block| visit(Visit::Block(block));
        let mut tally = Tally::new(&ring, &spans, &fastbins, keys, most, &mut each);
        walker.all(&mut tally);
        // There is something only after a walk without a key.
        let late = caches::choose(tally.samples(), &layouts).ok_or(OTHER_CACHES)?;
        match late.into_iter().find(|(_, keys)| *keys != Keys::None) {
            Some(late) => (layout, keys) = late,
            None => break tally.finish(walker.memory, layout),
        }
        visit(Visit::Again);
    };
    census.missed.arenas += spans.broken;
    census.missed.libraries = mains.count() as u64;
    census.mapped = mapped::find(memory, &mut window, &regions, &spans.covered, &parameters, &mut |block| {
        visit(Visit::Block(block));
    });
    census.missed.mapped = census.mapped.blocks.abs_diff(parameters.mapped);
    census.missed.mapped_bytes = census.mapped.bytes.abs_diff(parameters.mapped_bytes);
    Ok(census)
}

/// Walks over the chunks of all arenas.
struct Walker<'a, M> {
    memory: &'a mut M,
    window: &'a mut Window,
    budget: &'a mut Budget,
    spans: &'a Spans,
    /// Where the addresses of top chunks are, by arena.
    tops: &'a [u64],
}

impl<M: Peek> Walker<'_, M> {
    /// A walk over a span.
    fn walk(&mut self, span: &Span) -> Walk<'_, M> {
        let top = self.tops.get(span.arena).copied().unwrap_or_default();
        Walk::new(self.memory, self.window, self.budget, span, top)
    }

    /// All of them.
    fn all<V: FnMut(Block)>(&mut self, tally: &mut Tally<'_, V>) {
        let spans = self.spans;
        for span in &spans.spans {
            tally.begin(span);
            let walked = self.walk(span).run(tally, u64::MAX);
            tally.end(span, &walked);
        }
    }

    /// The layout, and how blocks in caches are told.
    fn layout(
        &mut self,
        layouts: &[&'static Layout],
        parameters: &Parameters,
    ) -> Result<(&'static Layout, Keys), Refused> {
        let most = parameters.cached_most;
        let spans = self.spans;
        let mut chosen = Vec::new();
        // Caches are among the first blocks of an arena, mostly. Otherwise all are looked at.
        for (look, (arenas, chunks)) in LOOKS.into_iter().enumerate() {
            let (mut samples, mut is_first) = (Samples::default(), false);
            let main_first = spans.spans.iter().filter(|span| span.arena == 0);
            let others = spans.spans.iter().filter(|span| span.arena != 0);
            for span in main_first.chain(others).take(arenas) {
                let mut seek = Seek::new(&mut samples, most);
                self.walk(span).run(&mut seek, chunks);
                is_first |= seek.is_first() && span.arena == 0;
            }
            chosen = caches::choose(&samples, layouts).ok_or(OTHER_CACHES)?;
            let is_known = chosen.iter().any(|(_, keys)| *keys != Keys::None);
            // Where the address of a cache is the key, all are needed.
            let needs_all = is_known && chosen.iter().any(|(layout, _)| layout.key == KeyKind::Cache);
            if !is_known && !is_first {
                // Whoever has the first chunk, there is a cache somewhere.
                chosen.clear();
            } else if !needs_all && (is_known || look > 0) {
                break;
            }
        }
        // Where caches are empty, lists of fast bins tell whether links are mangled.
        let broken = |walker: &mut Self, layout: &Layout| {
            let mut fastbins = Fastbins::new();
            for top in walker.tops {
                fastbins.read(walker.memory, top - arena::TOP, layout);
            }
            fastbins.broken
        };
        if chosen.len() > 1 {
            let mut scored: Vec<_> =
                chosen.into_iter().map(|chosen| (broken(self, chosen.0), chosen)).collect();
            scored.sort_by_key(|(broken, _)| *broken);
            chosen = scored.into_iter().map(|(_, chosen)| chosen).collect();
        }
        chosen.into_iter().next().ok_or(OTHER_CACHES)
    }
}
