//! Every block of a process whose allocator is jemalloc, read from what jemalloc itself keeps, as [`super`] does for glibc's malloc.
//!
//! 1. [`tree`]: from a page of memory a tree leads to the extent that it belongs to. Its root is found by what it leads to.
//! 2. [`extents`]: an extent is a slab of blocks of one size, one large block, or free. Of a slab it is known which blocks are in
//!    use, and how many are not; these must agree, and the tree must agree with all of it, or the layout is another one.
//! 3. [`caches`]: blocks that a thread keeps for itself look as if they were in use.
//! 4. [`base`]: where all of this is kept.
//!
//! As with glibc the result is exact for a process at rest, and the work is bounded whatever the memory holds.

mod base;
mod caches;
mod described;
mod extents;
mod layout;
mod pages;
#[cfg(test)]
mod tests;
mod tree;

use std::ops::Range;

use self::{
    base::Base,
    caches::{Cached, Caches},
    extents::{Content, Extent, Extents, Stop},
    layout::{BASE_UNIT, DIRTY, Layout, MUZZY, NODE, RETAINED, class_size},
    tree::{Found, Tree},
};
use super::{
    figures::{Allocator, Amount, Arena, Block, Census, Missed, Refused},
    memory::{Peek, Region, Regions},
    pages::FreePages,
};

/// Visits every block of a process, in order of address.
///
/// # Errors
/// There is no heap of jemalloc, or its layout is not a known one.
pub(super) fn census(
    memory: &mut impl Peek,
    regions: &[Region],
    visit: impl FnMut(Block),
) -> Result<Census, Refused> {
    let regions = Regions::new(regions);
    let (tree, layout, others) = find(memory, &regions)?;
    let read = |memory: &mut _| read(memory, &regions, &tree, layout);
    let mut extents = read(memory)?;
    // Caches are not looked for in the allocator's own memory.
    let mut caches = Caches::find(memory, &regions, &layout.cache, &own(&extents, &[]));
    caches.fill(memory, &layout.cache);
    // What was freed meanwhile may have gone from a cache to its slab.
    let later = read(memory)?;
    extents.confirm(&later);
    let number = caches.fill(memory, &layout.cache);

    let mut units = later.described.clone();
    units.extend(tree.leaves.iter().map(|&(_, leaf)| leaf / BASE_UNIT));
    units.extend(caches.listing.iter().map(|arena| arena / BASE_UNIT));
    let base = Base::find(memory, &regions, layout, &units);

    let mut tally = Tally::default();
    let mut internal = Amount::default();
    let wrong = caches.take_out(&mut extents, |Cached { arena, bytes, is_own }| {
        let sum =
            if is_own { Some(&mut internal) } else { tally.arena(arena).map(|arena| &mut arena.in_caches) };
        if let Some(sum) = sum {
            sum.add(bytes);
        }
    });
    tally.count(&extents, visit);
    let mut census = Census {
        allocator: Allocator::Jemalloc,
        releases: layout.releases,
        own: own(&later, &base.blocks),
        arenas: Vec::new(),
        mapped: Amount::default(),
        internal,
        caches: number as u64,
        missed: Missed {
            skipped: extents.unknown.max(later.unknown),
            resumed: extents.wrong.max(later.wrong) as u64,
            left: extents.left,
            read_again: extents.read_again + later.read_again,
            arenas: base.unknown,
            lists: caches.broken,
            uncached: wrong,
            libraries: others,
            ..Missed::default()
        },
    };
    let Tally { arenas, free } = tally;
    census.arenas = arenas;
    free.count(memory, &mut census.arenas);
    Ok(census)
}

/// How often all is looked at again if more of it changes than makes sense.
const ATTEMPTS: usize = 4;

/// Finds the tree, its layout, and how many others there are.
fn find(memory: &mut impl Peek, regions: &Regions) -> Result<(Tree, &'static Layout, u64), Refused> {
    for _ in 0..ATTEMPTS {
        match tree::find(memory, regions) {
            Found::Nothing => return Err(Refused::NoHeap),
            Found::Unknown => {}
            Found::Tree(tree, layout, others) => return Ok((tree, layout, others)),
        }
    }
    Err(Refused::OtherJemalloc("extents are described otherwise"))
}

/// Reads all extents.
fn read(
    memory: &mut impl Peek,
    regions: &Regions,
    tree: &Tree,
    layout: &'static Layout,
) -> Result<Extents, Refused> {
    for _ in 0..ATTEMPTS {
        match Extents::read(memory, regions, tree, layout, usize::MAX) {
            Ok(extents) => return Ok(extents),
            Err(Stop::Wrong) => {}
            Err(Stop::Many) => return Err(Refused::OtherJemalloc("there are too many extents")),
        }
    }
    Err(Refused::OtherJemalloc("extents contradict themselves"))
}

/// Memory that is the allocator's, in order: neighbours are one.
fn own(extents: &Extents, base: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> =
        extents.all.iter().map(Extent::range).chain(base.iter().cloned()).collect();
    all.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in all {
        match joined.last_mut() {
            Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// What was counted so far.
#[derive(Default)]
struct Tally {
    arenas: Vec<Arena>,
    free: FreePages,
}

impl Tally {
    fn arena(&mut self, number: u16) -> Option<&mut Arena> {
        let number = usize::from(number);
        if number >= self.arenas.len() {
            self.arenas.resize(number + 1, Arena::default());
        }
        if let Some(first) = self.arenas.first_mut() {
            first.is_main = true;
        }
        self.arenas.get_mut(number)
    }

    fn count(&mut self, extents: &Extents, mut visit: impl FnMut(Block)) {
        for extent in &extents.all {
            let Extent { start, arena: number, size: bytes, .. } = *extent;
            let Some(arena) = self.arena(number) else { continue };
            arena.heaps += 1;
            arena.found += bytes;
            match extent.content {
                Content::Large { is_free: true, .. } => {}
                Content::Large { class, offset, .. } => {
                    let size = class_size(u64::from(class));
                    arena.in_use.add(size);
                    visit(Block { address: start + u64::from(offset), size });
                }
                Content::Slab { class, regions, bits } => {
                    let size = class_size(u64::from(class));
                    for region in 0..u64::from(regions) {
                        let place = bits as usize + (region / 64) as usize;
                        let is_in = |words: &[u64]| {
                            words.get(place).is_some_and(|word| word >> (region % 64) & 1 != 0)
                        };
                        if is_in(&extents.free) {
                            arena.in_bins.add(size);
                        } else if !is_in(&extents.taken) {
                            arena.in_use.add(size);
                            visit(Block { address: start + region * size, size });
                        }
                    }
                }
                Content::Free(state) => {
                    let sum = match u64::from(state) {
                        DIRTY => &mut arena.dirty,
                        MUZZY => &mut arena.muzzy,
                        RETAINED => &mut arena.retained,
                        // On its way to or from one of these.
                        _ => &mut arena.dirty,
                    };
                    *sum += bytes;
                    if u64::from(state) != RETAINED {
                        self.free.extent(start..start + bytes, usize::from(number));
                    }
                }
            }
        }
    }
}

const _: () = assert!(NODE == BASE_UNIT);
