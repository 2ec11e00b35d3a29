//! The blocks of a process, by address.

use std::{mem::size_of, ops::Range};

use super::{
    directory::{ADDRESS, ADDRESS_BITS, Directory, Hit, Near},
    scan::limit_of,
};

/// Blocks begin at multiples of this.
const ALIGNMENT: u64 = 8;
/// The size of a block that is in `Blocks::large`, and at the same time the least of such a block.
const LARGE: u16 = u16::MAX;
/// The most blocks: two bits of their numbers are needed for other things.
const MAX_BLOCKS: usize = 1 << 30;
/// Blocks that are collected at a time, so that none is copied while more are added.
const PART: usize = 1 << 16;

/// Where a block begins and its size, `LARGE` at most, in 61 bits.
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    const SIZE_BITS: u32 = u16::BITS;

    fn new(address: u64, size: u64) -> Self {
        let size = u16::try_from(size).unwrap_or(LARGE);
        Self(((address & ADDRESS) / ALIGNMENT) << Self::SIZE_BITS | u64::from(size))
    }

    fn start(self) -> u64 {
        (self.0 >> Self::SIZE_BITS) * ALIGNMENT
    }

    fn size(self) -> u16 {
        self.0 as u16
    }
}
const _: () = assert!(ADDRESS_BITS - ALIGNMENT.trailing_zeros() + Packed::SIZE_BITS <= u64::BITS);

/// A block with its size.
#[derive(Clone, Copy)]
struct Large {
    index: u32,
    start: u64,
    size: u64,
}

/// Blocks while they are collected, in any order.
#[derive(Default)]
pub struct Collected {
    parts: Vec<Vec<Packed>>,
    len: usize,
    large: Vec<(u64, u64)>,
    /// The disjunction of all addresses.
    all: u64,
}

impl Collected {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many were added.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Adds the block of `size` bytes that begins at `address`, rounded down to a multiple of 8; a size of 0 is that of an
    /// empty block. If there are several at an address, the first counts.
    pub fn add(&mut self, address: u64, size: u64) {
        if self.len.is_multiple_of(PART) {
            self.parts.push(Vec::with_capacity(PART));
        }
        let size = size.clamp(1, ADDRESS);
        let block = Packed::new(address, size);
        if block.size() == LARGE {
            self.large.push((block.start(), size));
        }
        self.all |= block.start();
        if let Some(part) = self.parts.last_mut() {
            part.push(block);
            self.len += 1;
        }
    }

    /// Numbers the blocks in order of address. `None`: there are too many, or they are too far apart, for as much memory as
    /// `limit_of` so many blocks.
    #[must_use]
    pub fn finish(self) -> Option<Blocks> {
        let limit = limit_of(self.len);
        self.finish_within(limit)
    }

    /// The same with at most that many bytes.
    pub(super) fn finish_within(self, limit: usize) -> Option<Blocks> {
        let Self { parts, len, large, all } = self;
        if len >= MAX_BLOCKS || len * size_of::<Packed>() > limit {
            return None;
        }
        let mut directory = Directory::new(all);
        let packed = || parts.iter().flatten();
        let count = directory.fill(packed().map(|block| block.start()), limit)?;
        let mut blocks = Blocks {
            directory,
            sizes: vec![0; count as usize],
            large: Vec::with_capacity(large.len()),
            low: u64::MAX,
            high: 0,
            limit,
        };
        for block in packed() {
            let start = block.start();
            let index = blocks.beginning_at(start);
            // Each has a byte at least: a size that is not 0 is that of an earlier one at the address.
            let size = index.and_then(|index| blocks.sizes.get_mut(index as usize));
            let Some(size) = size.filter(|size| **size == 0) else { continue };
            *size = block.size();
            blocks.low = blocks.low.min(start);
            if block.size() < LARGE && !blocks.cover(start, block.size().into(), None, limit) {
                return None;
            }
        }
        for (start, size) in large {
            if let Some(index) = blocks.beginning_at(start)
                && blocks.sizes.get(index as usize) == Some(&LARGE)
            {
                blocks.large.push(Large { index, start, size });
            }
        }
        blocks.large.sort_by_key(|large| large.index);
        blocks.large.dedup_by_key(|large| large.index);
        for number in 0..blocks.large.len() {
            let Some(&Large { start, size, .. }) = blocks.large.get(number) else { break };
            if !blocks.cover(start, size, Some(number as u32), limit) {
                return None;
            }
        }
        (blocks.bytes() <= limit).then_some(blocks)
    }
}

/// The blocks of a process, numbered in order of address.
pub struct Blocks {
    directory: Directory,
    sizes: Vec<u16>,
    /// In order.
    large: Vec<Large>,
    low: u64,
    high: u64,
    limit: usize,
}

impl Blocks {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sizes.len()
    }

    /// Notes which addresses a block covers. Returns whether there was room.
    fn cover(&mut self, start: u64, size: u64, large: Option<u32>, limit: usize) -> bool {
        // Its chunk may reach further than it does itself.
        let end = start + usable(size);
        self.high = self.high.max(end);
        self.directory.cover(start, end, large, limit)
    }

    /// Memory in use, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.directory.bytes()
            + self.sizes.len() * size_of::<u16>()
            + self.large.capacity() * size_of::<Large>()
    }

    /// The memory that they and all that is found out about them may use, in bytes.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// The address of the first one, and the one behind the last.
    pub(super) fn hull(&self) -> (u64, u64) {
        (self.low, self.high)
    }

    /// Whether a block may lie in a range of addresses.
    pub(super) fn may_touch(&self, range: &Range<u64>) -> bool {
        self.directory.may_touch(range)
    }

    /// The number of the block that begins at `address`.
    #[must_use]
    pub fn beginning_at(&self, address: u64) -> Option<u32> {
        self.directory.beginning_at(address & !(ALIGNMENT - 1))
    }

    /// The block that contains `address`, which has at most 48 bits.
    pub(super) fn find(&self, address: u64) -> Option<Hit> {
        self.find_near(address, self.near(address))
    }

    /// What [`Blocks::find_near`] needs: for many addresses at a time, so that their loads do not wait for each other.
    #[inline]
    pub(super) fn near(&self, address: u64) -> Near {
        self.directory.near(address)
    }

    /// The block that contains `address`, which has at most 48 bits. `near`: what is near it.
    #[inline]
    pub(super) fn find_near(&self, address: u64, near: Near) -> Option<Hit> {
        let hit = self.last(address, near)?;
        // Each has a byte at least.
        (address == hit.start || address.wrapping_sub(hit.start) < self.size(hit.index)).then_some(hit)
    }

    /// The block in whose chunk `address` is, which has at most 48 bits, as glibc makes chunks.
    pub(super) fn find_chunk(&self, address: u64) -> Option<Hit> {
        let hit = self.last(address, self.near(address));
        hit.filter(|hit| address.wrapping_sub(hit.start) < self.usable(hit.index))
    }

    /// Whether a chunk of glibc's begins at `address`, within that block: the last 8 bytes that it can use are the first of
    /// the next chunk.
    pub(super) fn is_next_chunk(&self, address: u64, block: u32) -> bool {
        let last = self.last(address, self.near(address)).filter(|hit| hit.index == block);
        last.is_some_and(|hit| address.wrapping_sub(hit.start) + 8 == self.usable(block))
    }

    /// How much of a block's chunk the program can use.
    pub(super) fn usable(&self, block: u32) -> u64 {
        usable(self.size(block))
    }

    /// The block that begins at or last before `address`, if not far before.
    #[inline]
    fn last(&self, address: u64, near: Near) -> Option<Hit> {
        match self.directory.last_near(address, near) {
            Ok(hit) => Some(hit),
            Err(large) => {
                let large = self.large.get(large? as usize)?;
                Some(Hit { index: large.index, start: large.start })
            }
        }
    }

    /// The size of a block in bytes.
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

    /// Where each begins, in order.
    pub fn starts(&self) -> impl Iterator<Item = u64> {
        self.groups().flat_map(|(_, starts)| starts)
    }

    /// Every block in order, in groups of a few: their numbers, and where each begins.
    pub(super) fn groups(&self) -> impl Iterator<Item = (Range<u32>, impl Iterator<Item = u64>)> {
        self.directory.groups()
    }
}

/// How much of its chunk a program can use, if glibc has made it for a block of that size.
fn usable(size: u64) -> u64 {
    (size + 8).next_multiple_of(16).max(32) - 8
}
