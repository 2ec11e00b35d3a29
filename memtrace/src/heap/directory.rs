//! Where blocks begin, as bits, in chunks that tables find by address.

use std::{mem::size_of, ops::Range};

/// Bytes of address space for one bit: 16 where every block begins at a multiple of that, as glibc's do, otherwise 8. No
/// allocator known places blocks closer.
const SHIFTS: [u32; 2] = [4, 3];
/// Words of a chunk's bits: it describes 8 KiB of address space, or 4.
const WORDS: usize = 8;
const GRANULES: usize = WORDS * 64;
const CHUNK_BITS: u32 = GRANULES.trailing_zeros();
/// User addresses have at most 48 bits; what is above may be a tag.
pub(super) const ADDRESS_BITS: u32 = 48;
pub(super) const ADDRESS: u64 = (1 << ADDRESS_BITS) - 1;
/// A table has this many chunks: 512 MiB, or 256.
const TABLE_BITS: u32 = 16;
const TABLE: usize = 1 << TABLE_BITS;

/// Marks an entry for whose addresses no chunk is needed: the rest is a distance in chunks, or a number.
const COVERED: u32 = 1 << 31;

/// The addresses at which blocks begin in a small part of the address space.
#[derive(Clone, Default)]
struct Chunk {
    bits: [u64; WORDS],
    /// Blocks in the words before each, of this chunk.
    ranks: [u16; WORDS],
    /// Blocks in earlier chunks.
    base: u32,
    /// So many chunks before this one is the last in which a block begins; 0 if there is none near enough.
    before: u32,
}

/// A block that an address is in or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Its number.
    pub(super) index: u32,
    /// Where it begins.
    pub(super) start: u64,
}

/// What is known of an address after two loads: enough, if a block begins a little before it.
#[derive(Clone, Copy, Default)]
pub(super) struct Near {
    /// Blocks before the word of bits that the address is in.
    rank: u32,
    /// That word up to the address's bit; 0: no block begins there, or not in its chunk.
    bits: u64,
}

/// What is at an address.
enum Place<'a> {
    Nothing,
    Chunk(&'a Chunk),
    /// No block begins in its chunk; the last to begin before it does so many chunks before.
    After(u32),
    /// It is within this large block, and so is everything near.
    Within(u32),
}

/// The blocks by address.
#[derive(Default)]
pub(super) struct Directory {
    /// Granules are this large.
    shift: u32,
    /// By the upper bits of an address: 0, or the number of a table plus 1, or `COVERED` and that of a large block.
    top: Vec<u32>,
    /// By its middle bits: 0, or the number of a chunk plus 1, or `COVERED` and a distance.
    tables: Vec<Box<[u32]>>,
    chunks: Vec<Chunk>,
}

impl Directory {
    /// For blocks at addresses, of which `all` is the disjunction.
    pub(super) fn new(all: u64) -> Self {
        let [large, small] = SHIFTS;
        let shift = if all & ((1 << large) - 1) == 0 { large } else { small };
        let top = 1usize << (ADDRESS_BITS - shift - CHUNK_BITS - TABLE_BITS);
        Self { shift, top: vec![0; top], tables: Vec::new(), chunks: Vec::new() }
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.top.len() * size_of::<u32>()
            + self.tables.len() * TABLE * size_of::<u32>()
            + self.chunks.len() * size_of::<Chunk>()
    }

    /// The number of the chunk that an address is in, of all that there may be.
    fn chunk_of(&self, address: u64) -> u64 {
        (address & ADDRESS) >> (self.shift + CHUNK_BITS)
    }

    fn address_of(&self, chunk: u64) -> u64 {
        chunk << (self.shift + CHUNK_BITS)
    }

    /// The word and the bit of an address in its chunk.
    fn bit(&self, address: u64) -> (usize, u32) {
        let granule = (address >> self.shift) as usize & (GRANULES - 1);
        (granule >> 6, granule as u32 & 63)
    }

    #[inline]
    fn place(&self, chunk: u64) -> Place<'_> {
        let top = self.top.get((chunk >> TABLE_BITS) as usize).copied().unwrap_or(0);
        if top & COVERED != 0 {
            return Place::Within(top & !COVERED);
        }
        let table = self.tables.get((top as usize).wrapping_sub(1));
        let entry = table.and_then(|table| table.get(chunk as usize & (TABLE - 1))).copied().unwrap_or(0);
        match self.chunks.get((entry as usize).wrapping_sub(1)) {
            Some(chunk) => Place::Chunk(chunk),
            None if entry & COVERED != 0 => Place::After(entry & !COVERED),
            None => Place::Nothing,
        }
    }

    /// The table's entry for a chunk, in a new table if need be.
    fn entry_mut(&mut self, chunk: u64) -> Option<&mut u32> {
        let number = self.top.get_mut((chunk >> TABLE_BITS) as usize)?;
        if *number == 0 {
            self.tables.push(vec![0; TABLE].into_boxed_slice());
            *number = self.tables.len() as u32;
        }
        self.tables.get_mut((*number as usize).wrapping_sub(1))?.get_mut(chunk as usize & (TABLE - 1))
    }

    /// Marks the addresses at which blocks begin, and numbers these in order of address. Returns how many there are; `None`:
    /// more than `limit` bytes would be needed.
    pub(super) fn fill(&mut self, addresses: impl Iterator<Item = u64>, limit: usize) -> Option<u32> {
        for address in addresses {
            let (word, bit) = self.bit(address);
            let chunks = self.chunks.len() as u32;
            let entry = self.entry_mut(self.chunk_of(address))?;
            let number = if *entry == 0 { chunks } else { *entry - 1 };
            if *entry == 0 {
                *entry = chunks + 1;
                self.chunks.push(Chunk::default());
                if self.bytes() > limit {
                    return None;
                }
            }
            if let Some(word) =
                self.chunks.get_mut(number as usize).and_then(|chunk| chunk.bits.get_mut(word))
            {
                *word |= 1 << bit;
            }
        }
        self.number()
    }

    /// Numbers the blocks.
    fn number(&mut self) -> Option<u32> {
        let mut last = None;
        let mut base = 0u32;
        for (chunk, number) in numbered(&self.top, &self.tables) {
            let Some(place) = self.chunks.get_mut(number) else { continue };
            place.base = base;
            let distance = last.map_or(0, |last: u64| chunk - last);
            place.before = u32::try_from(distance).unwrap_or(0);
            last = Some(chunk);
            let mut rank = 0;
            for (word, place) in place.bits.iter().zip(&mut place.ranks) {
                *place = rank;
                rank += word.count_ones() as u16;
            }
            base = base.checked_add(rank.into())?;
        }
        Some(base)
    }

    /// Makes a block found by what it covers: addresses up to `end`. `large`: its number among the large ones. Returns
    /// whether that takes no more than `limit` bytes in all.
    pub(super) fn cover(&mut self, start: u64, end: u64, large: Option<u32>, limit: usize) -> bool {
        let (first, mut chunk) = (self.chunk_of(start), self.chunk_of(start) + 1);
        let end = self.chunk_of(end.saturating_sub(1).min(ADDRESS)) + 1;
        while chunk < end {
            let top = (chunk >> TABLE_BITS) as usize;
            if let Some(large) = large
                && chunk as usize & (TABLE - 1) == 0
                && end - chunk >= TABLE as u64
                && let Some(top) = self.top.get_mut(top).filter(|top| **top == 0)
            {
                *top = COVERED | large;
                chunk += TABLE as u64;
                continue;
            }
            if self.bytes() > limit {
                return false;
            }
            let distance =
                u32::try_from(chunk - first).ok().filter(|distance| distance & COVERED == 0).unwrap_or(0);
            match self.entry_mut(chunk) {
                Some(entry) if *entry == 0 => *entry = COVERED | distance,
                _ => {}
            }
            chunk += 1;
        }
        true
    }

    /// Whether a block may begin in a range of addresses, or cover some of it.
    pub(super) fn may_touch(&self, range: &Range<u64>) -> bool {
        let chunks = self.chunk_of(range.start)..=self.chunk_of(range.end.saturating_sub(1));
        chunks.into_iter().any(|chunk| !matches!(self.place(chunk), Place::Nothing))
    }

    /// The number of the block that begins at `address`.
    pub(super) fn beginning_at(&self, address: u64) -> Option<u32> {
        let Place::Chunk(chunk) = self.place(self.chunk_of(address)) else { return None };
        let (word, bit) = self.bit(address);
        let is_one = address & ((1 << self.shift) - 1) == 0 && chunk.bits.get(word)? >> bit & 1 != 0;
        is_one.then(|| chunk.base + chunk.rank(word, bit) - 1)
    }

    /// What is near an address.
    #[inline]
    pub(super) fn near(&self, address: u64) -> Near {
        let Place::Chunk(chunk) = self.place(self.chunk_of(address)) else { return Near::default() };
        let (word, bit) = self.bit(address);
        let (bits, rank) = (chunk.bits.get(word), chunk.ranks.get(word));
        Near {
            rank: chunk.base + u32::from(rank.copied().unwrap_or(0)),
            bits: bits.copied().unwrap_or(0) & u64::MAX >> (63 - bit),
        }
    }

    /// The block that begins at `address` or last before it, if not far before. `near`: what is near it.
    #[inline]
    pub(super) fn last_near(&self, address: u64, near: Near) -> Result<Hit, Option<u32>> {
        if near.bits == 0 {
            return self.last_far(address);
        }
        let granule = 63 - near.bits.leading_zeros();
        let start = (address & ADDRESS) >> (self.shift + 6) << 6 | u64::from(granule);
        Ok(Hit { index: near.rank + near.bits.count_ones() - 1, start: start << self.shift })
    }

    /// The same where none begins in that word of bits. An error: it is within the large block with that number, or none.
    fn last_far(&self, address: u64) -> Result<Hit, Option<u32>> {
        let chunk = self.chunk_of(address);
        let (before, end) = match self.place(chunk) {
            Place::Nothing => return Err(None),
            Place::Within(large) => return Err(Some(large)),
            Place::After(distance) => (chunk.checked_sub(distance.into()).ok_or(None)?, WORDS),
            Place::Chunk(place) => {
                let (word, _) = self.bit(address);
                match place.last(word) {
                    Some(_) => (chunk, word),
                    None if place.before == 0 => return Err(None),
                    None => (chunk.checked_sub(place.before.into()).ok_or(None)?, WORDS),
                }
            }
        };
        let Place::Chunk(place) = self.place(before) else { return Err(None) };
        let (granule, rank) = place.last(end).ok_or(None)?;
        let start = self.address_of(before) | granule << self.shift;
        Ok(Hit { index: place.base + rank - 1, start })
    }

    /// Where each block begins, in order: in groups, with the numbers of their blocks.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Range<u32>, impl Iterator<Item = u64>)> {
        numbered(&self.top, &self.tables).filter_map(move |(number, chunk)| {
            let address = self.address_of(number);
            let chunk = self.chunks.get(chunk)?;
            let words = chunk.bits.into_iter().zip(0u64..).filter(|(word, _)| *word != 0);
            let starts = words.flat_map(move |(word, number)| {
                let rest = std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)));
                let bits = rest.take_while(|&rest| rest != 0).map(u64::trailing_zeros);
                bits.map(move |bit| address + ((number * 64 + u64::from(bit)) << self.shift))
            });
            Some((chunk.base..chunk.base + chunk.rank(WORDS - 1, 63), starts))
        })
    }
}

/// The chunks with blocks in order of address: which of all chunks each is, and its number.
fn numbered(top: &[u32], tables: &[Box<[u32]>]) -> impl Iterator<Item = (u64, usize)> {
    // The number of a large block is that of no table.
    let tables = top
        .iter()
        .zip(0u64..)
        .filter_map(|(number, upper)| Some((upper, tables.get((*number as usize).checked_sub(1)?)?)));
    tables.flat_map(|(upper, table)| {
        let entries = table.iter().zip(0u64..).filter(|(entry, _)| **entry != 0 && **entry & COVERED == 0);
        entries.map(move |(entry, lower)| (upper << TABLE_BITS | lower, *entry as usize - 1))
    })
}

impl Chunk {
    /// How many blocks begin in this chunk up to that bit.
    fn rank(&self, word: usize, bit: u32) -> u32 {
        let bits = self.bits.get(word).copied().unwrap_or(0) & u64::MAX >> (63 - bit);
        u32::from(self.ranks.get(word).copied().unwrap_or(0)) + bits.count_ones()
    }

    /// The granule at which the last block in the words before that one begins, and how many begin up to there.
    fn last(&self, end: usize) -> Option<(u64, u32)> {
        let mut words = self.bits.get(..end)?.iter().enumerate().rev();
        let (word, bits) = words.find(|(_, bits)| **bits != 0)?;
        let bit = 63 - bits.leading_zeros();
        Some((word as u64 * 64 + u64::from(bit), self.rank(word, bit)))
    }
}
