//! Blocks that a report lists (`--show-allocs`).

use rustc_hash::FxHashMap;

use crate::profile::{LiveBlock, Profile};

/// The most blocks listed per row: the oldest.
const MAX_LISTED: usize = 1000;

/// The blocks of some rows, by slot of their stacks.
pub(super) struct Listed {
    /// The row, and its blocks.
    by_slot: FxHashMap<u32, (usize, Vec<LiveBlock>)>,
}

impl Listed {
    /// An empty list for these slots, with the places of their rows.
    pub(super) fn new(slots: impl IntoIterator<Item = (u32, usize)>) -> Self {
        Self { by_slot: slots.into_iter().map(|(slot, row)| (slot, (row, Vec::new()))).collect() }
    }

    /// Adds a block of a slot, if that is one of them.
    pub(super) fn add(&mut self, slot: u32, block: impl FnOnce() -> LiveBlock) {
        if let Some((_, blocks)) = self.by_slot.get_mut(&slot) {
            blocks.push(block());
            if blocks.len() >= 2 * MAX_LISTED {
                oldest_first(blocks);
            }
        }
    }

    /// Puts the blocks into their rows, oldest first.
    pub(super) fn put(self, profile: &mut Profile) {
        for (row, mut blocks) in self.by_slot.into_values() {
            oldest_first(&mut blocks);
            if let Some(row) = profile.rows.get_mut(row) {
                row.blocks = blocks;
            }
        }
    }
}

/// Sorts blocks by age and keeps the oldest that are listed.
fn oldest_first(blocks: &mut Vec<LiveBlock>) {
    blocks.sort_by_key(|block| (std::cmp::Reverse(block.age), block.address));
    blocks.truncate(MAX_LISTED);
}
