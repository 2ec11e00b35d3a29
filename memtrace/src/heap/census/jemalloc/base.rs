//! The allocator's own memory, from which it takes what it keeps of blocks: `base_t`. Its addresses of blocks are no roots.

use std::{collections::BTreeSet, ops::Range};

use super::{
    super::memory::{Kind, PAGE, Peek, Regions},
    layout::{BASE_UNIT, Layout, NO_ARENA},
};

/// How far before something of its own a block of this memory begins, in units.
const BACK: u64 = 512;
/// Units that are looked at, at most.
const MOST: usize = 1 << 16;

/// Blocks of that memory.
#[derive(Default)]
pub(super) struct Base {
    /// In order.
    pub(super) blocks: Vec<Range<u64>>,
    /// Units that are in none.
    pub(super) unknown: u64,
}

impl Base {
    /// Finds the blocks that these units are in.
    pub(super) fn find<M: Peek>(
        memory: &mut M,
        regions: &Regions,
        layout: &Layout,
        units: &BTreeSet<u64>,
    ) -> Self {
        let mut found = Self::default();
        for &unit in units.iter().take(MOST) {
            let at = unit * BASE_UNIT;
            if found.blocks.last().is_some_and(|block| at < block.end) {
                continue;
            }
            match block(memory, regions, layout, at) {
                Some(block) => found.blocks.push(block),
                None => found.unknown += 1,
            }
        }
        found.unknown += units.len().saturating_sub(MOST) as u64;
        found
    }
}

/// The block that a unit is in.
fn block<M: Peek>(memory: &mut M, regions: &Regions, layout: &Layout, at: u64) -> Option<Range<u64>> {
    (0..BACK).find_map(|back| {
        let start = at.checked_sub(back * BASE_UNIT)?;
        regions.at(start).filter(|region| region.kind != Kind::File)?;
        // Its size, the next one, and the extent that is the rest of it.
        let mut words = [0; 5];
        let read = memory.read_anew(start, &mut words);
        let [size, next, bits, rest, rest_size] = words;
        let end = start.checked_add(size)?;
        let is_block = read == words.len()
            && size.is_multiple_of(BASE_UNIT)
            && size > at - start
            && size <= BACK * BASE_UNIT
            && (next == 0 || next.is_multiple_of(PAGE))
            && layout.arena.of(bits) == NO_ARENA
            && rest > start
            && rest.checked_add(rest_size) == Some(end);
        is_block.then_some(start..end)
    })
}
