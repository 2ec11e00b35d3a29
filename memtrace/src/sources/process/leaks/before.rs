//! Lost blocks from before tracing began: those of a census that the table of live blocks does not have.

use rustc_hash::FxHashMap;

use crate::{
    heap::{Blocks, Marked},
    profile::Before,
};

/// Lost blocks of a check, and which of them were traced.
pub(super) struct Candidates {
    /// Where lost blocks begin, in order.
    candidates: Vec<u64>,
    /// Which of them are in the table.
    seen: Vec<bool>,
    /// All blocks of the scan that are.
    blocks: usize,
}

impl Candidates {
    /// `candidates`: where lost blocks begin, in order.
    pub(super) fn new(candidates: Vec<u64>) -> Self {
        Self { seen: vec![false; candidates.len()], candidates, blocks: 0 }
    }

    /// A block of the table is in the scan too.
    pub(super) fn see(&mut self, start: u64) {
        self.blocks += 1;
        let place = self.candidates.binary_search(&start).ok();
        if let Some(seen) = place.and_then(|place| self.seen.get_mut(place)) {
            *seen = true;
        }
    }

    /// The blocks that are not in the table; `None` if more look lost than can be.
    pub(super) fn others(&self, first: &Marked) -> Option<Before> {
        let blocks = first.blocks();
        let checked = blocks.len().saturating_sub(self.blocks) as u64;
        let mut sizes: FxHashMap<u64, u64> = FxHashMap::default();
        let others = self.candidates.iter().zip(&self.seen).filter(|(_, seen)| !**seen);
        for number in others.filter_map(|(start, _)| blocks.beginning_at(*start)) {
            *sizes.entry(blocks.size(number)).or_default() += 1;
        }
        let lost: u64 = sizes.values().sum();
        let is_doubtful = lost * 2 > checked && are_most_lost(blocks, &sizes);
        (!is_doubtful).then(|| Before::new(checked, sizes))
    }
}

/// Whether more than half of the blocks of more than half of the sizes are lost. `lost`: blocks by size.
fn are_most_lost(blocks: &Blocks, lost: &FxHashMap<u64, u64>) -> bool {
    let mut all: FxHashMap<u64, u64> = FxHashMap::default();
    for number in 0..blocks.len() as u32 {
        *all.entry(blocks.size(number)).or_default() += 1;
    }
    let mostly = all.iter().filter(|(size, blocks)| lost.get(size).is_some_and(|lost| lost * 2 > **blocks));
    mostly.count() * 2 > all.len()
}
