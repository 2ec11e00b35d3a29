//! What an allocator says after a scan of some of its blocks: which of them are still there, and which words that lead
//! to them are in others.

use super::pass::Free;
use crate::{
    heap::{
        Blocks, Pending,
        census::{Allocator, Block, Visit},
    },
    sources::process::census,
};

/// A census of what matters to a scan.
pub(in crate::sources::process) struct Recount {
    /// The allocator's memory.
    own: Free,
    there: Vec<bool>,
    in_use: Vec<bool>,
}

impl Recount {
    /// Asks an allocator of the process `pid`.
    ///
    /// # Errors
    /// There is no census.
    pub(super) fn take(pid: u32, allocator: Allocator, pending: &Pending) -> Result<Self, census::Failure> {
        let mut visited = Visited::new(pending.blocks(), pending.open().collect());
        let census = census::take(pid, allocator, |visit| match visit {
            Visit::Block(block) => visited.add(block),
            Visit::Again => visited.clear(),
        })?;
        let Visited { there, in_use, .. } = visited;
        Ok(Self { own: Free::Ranges(allocator, census.own), there, in_use })
    }

    /// Whether each of the blocks is still there, with the same size.
    pub(in crate::sources::process) fn there(&self) -> &[bool] {
        &self.there
    }

    /// Whether the block with that number, which begins at `start`, has been freed, if the allocator is the one that it is of.
    pub(super) fn is_freed(&self, number: u32, start: u64) -> bool {
        self.own.contains(start) && self.there.get(number as usize) != Some(&true)
    }

    /// Whether the word at `at`, which comes at that place among those asked for, is a root.
    pub(super) fn is_root(&self, place: usize, at: u64) -> bool {
        // Memory that the allocator has given back is another's.
        self.in_use.get(place) == Some(&true) || !self.own.contains(at)
    }
}

/// What a census has told of so far.
struct Visited<'a> {
    blocks: &'a Blocks,
    there: Vec<bool>,
    /// Addresses, in order.
    places: Vec<u64>,
    /// Whether a block contains each of them.
    in_use: Vec<bool>,
    /// The block visited last, and the first place that is not before it. Mostly they come in order.
    last: u64,
    next: usize,
}

impl<'a> Visited<'a> {
    fn new(blocks: &'a Blocks, places: Vec<u64>) -> Self {
        let (there, in_use) = (vec![false; blocks.len()], vec![false; places.len()]);
        Self { blocks, there, places, in_use, last: 0, next: 0 }
    }

    fn clear(&mut self) {
        self.there.fill(false);
        self.in_use.fill(false);
    }

    fn add(&mut self, Block { address, size }: Block) {
        if let Some(number) = self.blocks.beginning_at(address)
            && let Some(there) = self.there.get_mut(number as usize)
        {
            *there = self.blocks.size(number) == size;
        }
        if address < self.last {
            self.next = self.places.partition_point(|&place| place < address);
        }
        self.last = address;
        let rest = self.places.get(self.next..).unwrap_or_default();
        let before = rest.iter().take_while(|&&place| place < address).count();
        self.next += before;
        let inside = rest.iter().skip(before).take_while(|&&place| place - address < size);
        for (_, in_use) in inside.zip(self.in_use.iter_mut().skip(self.next)) {
            *in_use = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Allocator, Block, Free, Recount, Visited};
    use crate::heap::Collected;

    #[test]
    fn blocks_in_any_order_tell_what_is_in_use() {
        let mut collected = Collected::new();
        for (address, size) in [(0x1010, 24), (0x1100, 40), (0x1200, 40), (0x9010, 5000)] {
            collected.add(address, size);
        }
        let blocks = collected.finish().unwrap();
        let places = vec![0x100f, 0x1010, 0x1027, 0x1028, 0x5000, 0x5008, 0x6000, 0xa000];
        let mut visited = Visited::new(&blocks, places);
        visited.add(Block { address: 0x6000, size: 8 });
        visited.clear();
        for (address, size) in [(0x1010, 24), (0x1100, 56), (0x9010, 5000), (0x5000, 8), (0x5010, 1 << 20)] {
            visited.add(Block { address, size });
        }
        assert_eq!(visited.there, [true, false, false, true]);
        assert_eq!(visited.in_use, [false, true, true, false, true, false, true, true]);
    }

    #[test]
    fn what_the_allocator_has_given_back_is_no_longer_free() {
        let own = Free::Ranges(Allocator::Glibc, vec![0x1000..0x2000, 0x8000..0x9000]);
        let recount = Recount { own, there: vec![true, false, false], in_use: vec![true, false, false] };
        let roots = [(0, 0x1000), (1, 0x1800), (2, 0x2000)].map(|(place, at)| recount.is_root(place, at));
        assert_eq!(roots, [true, false, true]);
        let freed = [(0, 0x1000), (1, 0x1800), (2, 0x2000)].map(|(number, at)| recount.is_freed(number, at));
        assert_eq!(freed, [false, true, false]);
    }
}
