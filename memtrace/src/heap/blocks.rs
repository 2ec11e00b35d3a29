//! The blocks of a process, by address.

mod chunk;

use std::mem::size_of;

use self::chunk::Chunk;
use super::scan::limit_of;

/// One bit for 8 bytes: no allocator known places blocks closer. Blocks that begin within one such granule are one.
const GRANULE_SHIFT: u32 = 3;
/// A chunk describes 64 KiB of address space.
const CHUNK_SHIFT: u32 = 16;
/// Words of a chunk's bits, and those that share a rank.
const WORDS: usize = 1 << (CHUNK_SHIFT - GRANULE_SHIFT - 6);
const GROUP: usize = 8;
/// User addresses have at most 48 bits; what is above may be a tag.
const ADDRESS: u64 = (1 << 48) - 1;
/// A table has the chunks of 2 GiB.
const TABLE_SHIFT: u32 = 31;
const TABLE: usize = 1 << (TABLE_SHIFT - CHUNK_SHIFT);
const TOP: usize = 1 << (48 - TABLE_SHIFT);

/// A table's entry: 0, or the number of a chunk plus 1, or with this bit that of a large block that covers it.
const COVERED: u32 = 1 << 31;
/// The size of a block that is in `Blocks::large`.
const LARGE: u32 = u32::MAX;
/// The most blocks: a bit of their numbers is needed for other things.
const MAX_BLOCKS: u32 = 1 << 30;

/// A block of more than 64 KiB: it may cover chunks in which none begins.
#[derive(Clone, Copy)]
struct Large {
    index: u32,
    start: u64,
    size: u64,
}

/// Where the entry of an address is.
fn place(address: u64) -> (usize, usize) {
    let address = address & ADDRESS;
    ((address >> TABLE_SHIFT) as usize, (address >> CHUNK_SHIFT) as usize & (TABLE - 1))
}

/// The word and the bit of an address in its chunk.
fn bit(address: u64) -> (usize, u32) {
    let granule = (address >> GRANULE_SHIFT) as usize & (WORDS * 64 - 1);
    (granule >> 6, granule as u32 & 63)
}

/// The chunks by address.
struct Directory {
    top: Vec<u32>,
    tables: Vec<Box<[u32]>>,
    chunks: Vec<Chunk>,
}

impl Directory {
    fn bytes(&self) -> usize {
        TOP * size_of::<u32>()
            + self.tables.len() * TABLE * size_of::<u32>()
            + self.chunks.len() * size_of::<Chunk>()
    }

    /// The table's entry for an address; 0 if there is none.
    #[inline]
    fn entry(&self, address: u64) -> u32 {
        let (top, within) = place(address);
        let table = self.top.get(top).copied().unwrap_or(0);
        let table = self.tables.get((table as usize).wrapping_sub(1));
        table.and_then(|table| table.get(within)).copied().unwrap_or(0)
    }

    fn entry_mut(&mut self, address: u64) -> Option<&mut u32> {
        let (top, within) = place(address);
        let number = self.top.get_mut(top)?;
        if *number == 0 {
            self.tables.push(vec![0; TABLE].into_boxed_slice());
            *number = self.tables.len() as u32;
        }
        self.tables.get_mut(*number as usize - 1)?.get_mut(within)
    }
}

/// The addresses of blocks while they are collected.
pub struct Starts {
    directory: Directory,
    added: usize,
}

impl Default for Starts {
    fn default() -> Self {
        Self::new()
    }
}

impl Starts {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self { directory: Directory { top: vec![0; TOP], tables: Vec::new(), chunks: Vec::new() }, added: 0 }
    }

    /// Adds a block that begins at `address`. Returns whether there was room: as much as [`limit_of`] so many blocks.
    pub fn add(&mut self, address: u64) -> bool {
        self.added += 1;
        if self.directory.bytes() > limit_of(self.added) {
            return false;
        }
        let chunks = self.directory.chunks.len() as u32;
        let Some(entry) = self.directory.entry_mut(address) else { return false };
        let is_new = *entry == 0;
        if is_new {
            *entry = chunks + 1;
        }
        let number = *entry as usize - 1;
        if is_new {
            self.directory.chunks.push(Chunk {
                bits: [0; WORDS],
                ranks: [0; WORDS / GROUP],
                base: 0,
                before: 0,
            });
        }
        let (word, bit) = bit(address);
        if let Some(word) = self.directory.chunks.get_mut(number).and_then(|chunk| chunk.bits.get_mut(word)) {
            *word |= 1 << bit;
        }
        true
    }

    /// Whether a block that begins at `address` was added.
    pub(super) fn has(&self, address: u64) -> bool {
        let chunk = self.directory.chunks.get((self.directory.entry(address) as usize).wrapping_sub(1));
        let (word, bit) = bit(address);
        chunk.and_then(|chunk| chunk.bits.get(word)).is_some_and(|word| word >> bit & 1 != 0)
    }

    /// Numbers the blocks in order of address. Their sizes are to follow: [`Blocks::set_size`]. `None`: there are too many.
    #[must_use]
    pub fn finish(mut self) -> Option<Blocks> {
        let (mut count, mut before) = (0u32, 0);
        let (mut low, mut high) = (u64::MAX, 0);
        let Directory { top, tables, chunks } = &mut self.directory;
        for (upper, number) in top.iter().enumerate() {
            let Some(table) = tables.get((*number as usize).wrapping_sub(1)) else { continue };
            for (within, entry) in table.iter().enumerate() {
                let Some(chunk) = chunks.get_mut((*entry as usize).wrapping_sub(1)) else { continue };
                let address = (upper as u64) << TABLE_SHIFT | (within as u64) << CHUNK_SHIFT;
                chunk.base = count;
                chunk.before = before;
                let mut rank = 0u16;
                for (index, word) in chunk.bits.iter().enumerate() {
                    if index % GROUP == 0
                        && let Some(place) = chunk.ranks.get_mut(index / GROUP)
                    {
                        *place = rank;
                    }
                    rank += word.count_ones() as u16;
                    if *word != 0 {
                        let at = |bit: u32| address + ((index as u64 * 64 + u64::from(bit)) << GRANULE_SHIFT);
                        low = low.min(at(word.trailing_zeros()));
                        before = at(63 - word.leading_zeros());
                        high = high.max(before + (1 << GRANULE_SHIFT));
                    }
                }
                count = count.checked_add(u32::from(rank)).filter(|&count| count < MAX_BLOCKS)?;
            }
        }
        let sizes = vec![0; count as usize];
        Some(Blocks { directory: self.directory, sizes, large: Vec::new(), low, high })
    }
}

/// A block that an address is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Its number.
    pub(super) index: u32,
    /// Where it begins.
    pub(super) start: u64,
}

/// The blocks of a process, numbered in order of address.
pub struct Blocks {
    directory: Directory,
    /// 0: it has none, so it is no block.
    sizes: Vec<u32>,
    /// Sorted by number, once complete.
    large: Vec<Large>,
    low: u64,
    high: u64,
}

impl Blocks {
    /// How many there are, those without a size too.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Sets the size of the block that begins at `address`, if there is one. A size of 0 is that of an empty block.
    pub fn set_size(&mut self, address: u64, size: u64) {
        let Some(index) = self.beginning_at(address) else { return };
        let start = address & ADDRESS & !((1 << GRANULE_SHIFT) - 1);
        let Self { sizes, large, high, .. } = self;
        if let Some(place) = sizes.get_mut(index as usize) {
            *high = (*high).max(put(place, large, index, start, size));
        }
    }

    /// Sets the sizes of all blocks, which are asked for in order of address.
    pub(super) fn set_sizes(&mut self, mut size_of: impl FnMut(u64) -> u64) {
        let (mut sizes, mut large, mut high) = (std::mem::take(&mut self.sizes), Vec::new(), self.high);
        for (index, (start, place)) in (0..).zip(self.starts().zip(&mut sizes)) {
            high = high.max(put(place, &mut large, index, start, size_of(start)));
        }
        (self.sizes, self.large, self.high) = (sizes, large, high);
    }

    /// All sizes are set. Returns whether there was room for what describes large blocks.
    pub fn complete(&mut self) -> bool {
        let limit = limit_of(self.len());
        self.large.sort_unstable_by_key(|large| large.index);
        self.large.dedup_by_key(|large| large.index);
        for (number, large) in self.large.iter().enumerate() {
            let mut chunk = (large.start >> CHUNK_SHIFT) + 1;
            while chunk << CHUNK_SHIFT < large.start + large.size {
                if self.directory.bytes() > limit {
                    return false;
                }
                match self.directory.entry_mut(chunk << CHUNK_SHIFT) {
                    Some(entry) if *entry == 0 => *entry = COVERED | number as u32,
                    Some(_) => {}
                    None => return false,
                }
                chunk += 1;
            }
        }
        true
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.directory.bytes()
            + self.sizes.len() * size_of::<u32>()
            + self.large.capacity() * size_of::<Large>()
    }

    /// The address of the first one, and the one behind the last.
    pub(super) fn hull(&self) -> (u64, u64) {
        (self.low, self.high)
    }

    /// Whether a block may lie in a range of addresses.
    pub(super) fn may_touch(&self, range: &std::ops::Range<u64>) -> bool {
        let chunks = (range.start >> CHUNK_SHIFT)..=(range.end.saturating_sub(1) >> CHUNK_SHIFT);
        chunks.into_iter().any(|chunk| self.directory.entry(chunk << CHUNK_SHIFT) != 0)
            || self.find(range.start).is_some()
    }

    /// The number of the block that begins at `address`.
    #[must_use]
    pub fn beginning_at(&self, address: u64) -> Option<u32> {
        let entry = self.directory.entry(address);
        let chunk = self.directory.chunks.get((entry as usize).wrapping_sub(1))?;
        let (word, bit) = bit(address);
        (chunk.bits.get(word)? >> bit & 1 != 0).then(|| chunk.base + chunk.rank(word, bit) - 1)
    }

    /// The block that contains `address`, which has at most 48 bits.
    #[inline]
    pub(super) fn find(&self, address: u64) -> Option<Hit> {
        self.last(address).filter(|hit| address.wrapping_sub(hit.start) < self.size(hit.index))
    }

    /// The block in whose chunk `address` is, which has at most 48 bits, as glibc makes chunks.
    pub(super) fn find_chunk(&self, address: u64) -> Option<Hit> {
        self.last(address).filter(|hit| address.wrapping_sub(hit.start) < self.usable(hit.index))
    }

    /// Whether a chunk of glibc's begins at `address`, within that block: the last 8 bytes that it can use are the first of
    /// the next chunk.
    pub(super) fn is_next_chunk(&self, address: u64, block: u32) -> bool {
        let start = self.last(address).filter(|hit| hit.index == block).map(|hit| hit.start);
        start.is_some_and(|start| address.wrapping_sub(start) + 8 == self.usable(block))
    }

    /// How much of a block's chunk the program can use; 0 if it is no block.
    fn usable(&self, block: u32) -> u64 {
        match self.size(block) {
            0 => 0,
            size => (size + 8).next_multiple_of(16).max(32) - 8,
        }
    }

    /// The block that begins at or last before `address`, if not far before.
    #[inline]
    fn last(&self, address: u64) -> Option<Hit> {
        let entry = self.directory.entry(address);
        if entry & COVERED != 0 {
            let large = self.large.get((entry & !COVERED) as usize)?;
            return Some(Hit { index: large.index, start: large.start });
        }
        let Some(chunk) = self.directory.chunks.get((entry as usize).wrapping_sub(1)) else {
            return self.last_of_chunk_before(address);
        };
        let (word, bit) = bit(address);
        let index = (chunk.base + chunk.rank(word, bit)).checked_sub(1)?;
        let start = chunk.last(word, bit).map_or(chunk.before, |granule| {
            (address & ADDRESS) >> CHUNK_SHIFT << CHUNK_SHIFT | granule << GRANULE_SHIFT
        });
        Some(Hit { index, start })
    }

    /// The last block in the chunk before that of `address`, in which none begins: one of at most 64 KiB can reach into it.
    fn last_of_chunk_before(&self, address: u64) -> Option<Hit> {
        let before = ((address & ADDRESS) >> CHUNK_SHIFT << CHUNK_SHIFT).checked_sub(1)?;
        let entry = self.directory.entry(before);
        let chunk = self.directory.chunks.get((entry as usize).wrapping_sub(1))?;
        let (word, bit) = bit(before);
        let index = (chunk.base + chunk.rank(word, bit)).checked_sub(1)?;
        let start = before >> CHUNK_SHIFT << CHUNK_SHIFT | chunk.last(word, bit)? << GRANULE_SHIFT;
        Some(Hit { index, start })
    }

    /// The size of a block in bytes; 0 if it has none.
    #[must_use]
    pub fn size(&self, index: u32) -> u64 {
        match self.sizes.get(index as usize).copied().unwrap_or(0) {
            LARGE => {
                let place = self.large.binary_search_by_key(&index, |large| large.index);
                place.ok().and_then(|place| self.large.get(place)).map_or(0, |large| large.size)
            }
            size => size.into(),
        }
    }

    /// Every block in order: where it begins. Those without a size are among them.
    pub fn starts(&self) -> impl Iterator<Item = u64> {
        let Directory { top, tables, chunks } = &self.directory;
        let tables = top.iter().enumerate().filter_map(|(upper, &number)| {
            Some((upper as u64, tables.get((number as usize).wrapping_sub(1))?))
        });
        let chunks = tables.flat_map(move |(upper, table)| {
            table.iter().enumerate().filter_map(move |(within, &entry)| {
                let chunk = chunks.get((entry as usize).wrapping_sub(1))?;
                Some((upper << TABLE_SHIFT | (within as u64) << CHUNK_SHIFT, chunk))
            })
        });
        let words = chunks.flat_map(|(address, chunk)| {
            let at = move |index: usize| address + ((index as u64 * 64) << GRANULE_SHIFT);
            chunk.bits.iter().enumerate().map(move |(index, &word)| (at(index), word))
        });
        words.flat_map(|(address, word)| {
            let rest = std::iter::successors(Some(word), |rest| Some(rest & rest.wrapping_sub(1)));
            let bits = rest.take_while(|&rest| rest != 0).map(u64::trailing_zeros);
            bits.map(move |bit| address + (u64::from(bit) << GRANULE_SHIFT))
        })
    }
}

/// Sets a size. Returns where the block ends.
fn put(place: &mut u32, large: &mut Vec<Large>, index: u32, start: u64, size: u64) -> u64 {
    let size = size.clamp(1, ADDRESS);
    if size > 1 << CHUNK_SHIFT {
        large.push(Large { index, start, size });
    }
    *place = if size >= u64::from(LARGE) { LARGE } else { size as u32 };
    start + size
}
