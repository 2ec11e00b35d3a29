//! Where blocks begin in a part of the address space.

use super::{GROUP, WORDS};

/// The addresses at which blocks begin in 64 KiB of address space.
pub(super) struct Chunk {
    pub(super) bits: [u64; WORDS],
    /// Blocks in the groups before each, of this chunk.
    pub(super) ranks: [u16; WORDS / GROUP],
    /// Blocks in earlier chunks.
    pub(super) base: u32,
    /// Where the last one of them begins.
    pub(super) before: u64,
}

impl Chunk {
    /// How many blocks begin in this chunk up to that bit.
    #[inline]
    pub(super) fn rank(&self, word: usize, bit: u32) -> u32 {
        let group = word / GROUP;
        let mut rank = u32::from(self.ranks.get(group).copied().unwrap_or(0));
        for word in self.bits.get(group * GROUP..word).unwrap_or_default() {
            rank += word.count_ones();
        }
        rank + (self.bits.get(word).copied().unwrap_or(0) & u64::MAX >> (63 - bit)).count_ones()
    }

    /// The granule at which the last block up to that bit begins.
    #[inline]
    pub(super) fn last(&self, word: usize, bit: u32) -> Option<u64> {
        let here = self.bits.get(word)? & u64::MAX >> (63 - bit);
        let of = |word: usize, bits: u64| word as u64 * 64 + u64::from(63 - bits.leading_zeros());
        if here != 0 {
            return Some(of(word, here));
        }
        let earlier = self.bits.get(..word)?.iter().enumerate().rev().find(|(_, bits)| **bits != 0);
        earlier.map(|(word, bits)| of(word, *bits))
    }
}
