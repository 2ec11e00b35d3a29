//! One pass over the memory of a process.

use std::{mem::size_of, ops::Range};

use super::{
    blocks::{Blocks, Hit},
    edges::Edge,
    mark::{From, Marked},
    memory::{Between, Memory},
};

/// Words read at a time, 1 MiB of them, and the one after that, for words that are not aligned.
const WINDOW: usize = 1 << 17;
const PAGE: u64 = 4096;
/// What may be above an address in a word: a tag (16 bits), as some programs and processors have it.
const ADDRESS: u64 = (1 << 48) - 1;
/// What may be below one: a tag in the low bits of a pointer to the beginning of a block.
const TAG: u64 = 7;
/// Bytes for each block, and beside them, that a scan may use: see [`limit_of`].
const BYTES_PER_BLOCK: usize = 16;
const BYTES_BESIDE: usize = 64 << 20;

/// How to scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Whether pointers may be at any address, as in packed structures; otherwise at multiples of 8.
    pub unaligned: bool,
    /// Whether to record how each block was reached.
    pub holders: bool,
}

/// Why there is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The memory allowed does not suffice for the pointers between so many blocks.
    #[error("too many pointers between {0} blocks")]
    Pointers(usize),
}

/// The memory that a scan of so many blocks may use, in bytes: 16 for each block and 64 MiB.
#[must_use]
pub(super) fn limit_of(blocks: usize) -> usize {
    blocks.saturating_mul(BYTES_PER_BLOCK).saturating_add(BYTES_BESIDE)
}

/// Reads `memory` and finds out which blocks can be reached from it and from `words`: values that are not in memory, as
/// those of registers. Words in memory that is in no block are roots.
///
/// `suspects`, of a program that runs, are where blocks begin that no earlier scan has reached: others are not lost, and
/// neither is what they point to.
///
/// # Errors
/// There are too many pointers for the memory allowed.
pub fn scan(
    memory: &mut impl Memory,
    blocks: Blocks,
    words: &[u64],
    how: How,
    suspects: Option<&[u64]>,
) -> Result<Marked, Refused> {
    let count = blocks.len();
    let used =
        blocks.bytes() + count * (size_of::<u32>() + 1 + if how.holders { size_of::<u32>() } else { 0 });
    let room = limit_of(count).saturating_sub(used + 2 * WINDOW * size_of::<u64>()) / size_of::<u32>();
    let mut scan = Scan {
        hull: blocks.hull(),
        marked: Marked::new(blocks, room, how.holders),
        words: vec![0; WINDOW + 1],
        found: Vec::with_capacity(WINDOW),
        pointers: Vec::new(),
        unaligned: how.unaligned,
        between: Between::Roots,
        direct: false,
    };
    if let Some(suspects) = suspects {
        scan.marked.suspect_only(suspects);
    }
    // Roots first: then most blocks are known to be reachable when they are read.
    let mut with_blocks: Vec<Range<u64>> = Vec::new();
    let mut from = 0;
    while let Some(part) = memory.next(from) {
        from = part.end;
        if scan.marked.blocks.may_touch(&part) {
            with_blocks.push(part);
        } else {
            scan.part(memory, part, false)?;
        }
    }
    // After variables: what one of them holds too is better known by that.
    for (place, word) in (0u64..).zip(words) {
        if let Some(edge) = scan.edge(*word) {
            scan.marked.reach(edge, From::Root(EXTRA | place));
        }
    }
    for part in with_blocks {
        scan.part(memory, part, true)?;
    }
    scan.marked.decide();
    Ok(scan.marked)
}

/// Marks a root that is not in memory: the rest is its place among the words given.
pub(super) const EXTRA: u64 = 1 << 63;

/// A pointer that was read.
struct Pointer {
    /// Where it is.
    at: u64,
    /// Where it points to.
    address: u64,
    edge: Edge,
}

/// A scan on its way.
struct Scan {
    /// Where blocks may be.
    hull: (u64, u64),
    marked: Marked,
    words: Vec<u64>,
    /// Where in `words` there may be pointers.
    found: Vec<u32>,
    /// Pointers at any addresses, until they are in order.
    pointers: Vec<Pointer>,
    unaligned: bool,
    /// What the part that is read is where no block is known.
    between: Between,
    /// Whether pointers of reachable blocks are followed immediately and not kept.
    direct: bool,
}

impl Scan {
    /// The block that a word points to.
    #[inline]
    fn edge(&self, word: u64) -> Option<Edge> {
        let address = word & ADDRESS;
        let Hit { index, start } = self.marked.blocks.find(address)?;
        Some(Edge { target: index, is_start: address & !TAG == start })
    }

    /// Reads a part and notes its pointers. `blocks`: whether there may be blocks in it.
    fn part(&mut self, memory: &mut impl Memory, part: Range<u64>, blocks: bool) -> Result<(), Refused> {
        self.between = memory.between(&part);
        let mut from = part.start;
        while from < part.end {
            let length = (((part.end - from) / 8) as usize).min(WINDOW);
            let Some(window) = self.words.get_mut(..length) else { break };
            let read = memory.read(from, window).min(length);
            if let Some(after) = self.words.get_mut(read) {
                *after = 0;
            }
            self.window(from, read, 0, blocks)?;
            if self.unaligned {
                for shift in 1..8 {
                    self.window(from, read, shift, blocks)?;
                }
                let mut pointers = std::mem::take(&mut self.pointers);
                pointers.sort_unstable_by_key(|pointer| pointer.at);
                pointers.drain(..).try_for_each(|pointer| self.note(pointer, blocks))?;
                self.pointers = pointers;
            }
            // What follows a page that is no longer there may still be.
            from = if read > 0 { from + (read * 8) as u64 } else { (from & !(PAGE - 1)) + PAGE };
        }
        Ok(())
    }

    /// Notes the pointers among the first `length` words, which were read at `address`, `shift` bytes after their beginnings.
    fn window(&mut self, address: u64, length: usize, shift: u32, blocks: bool) -> Result<(), Refused> {
        let Self { words, found, hull: (low, high), .. } = self;
        let span = high.saturating_sub(*low);
        // No branch: which words are pointers cannot be predicted.
        found.clear();
        found.resize(length, 0);
        let mut count = 0;
        let pairs = words.get(..length).into_iter().flatten().zip(words.get(1..).into_iter().flatten());
        for (place, (word, next)) in pairs.enumerate() {
            let word = shifted(*word, *next, shift);
            if let Some(slot) = found.get_mut(count) {
                *slot = place as u32;
            }
            count += usize::from((word & ADDRESS).wrapping_sub(*low) < span);
        }
        found.truncate(count);
        for number in 0..count {
            let Some(place) = self.found.get(number).map(|&place| place as usize) else { break };
            let (Some(&word), Some(&next)) = (self.words.get(place), self.words.get(place + 1)) else {
                break;
            };
            let word = shifted(word, next, shift);
            let Some(edge) = self.edge(word) else { continue };
            let at = address + place as u64 * 8 + u64::from(shift);
            let pointer = Pointer { at, address: word & ADDRESS, edge };
            // Pointers of blocks are kept in order of their addresses.
            if self.unaligned {
                self.pointers.push(pointer);
            } else {
                self.note(pointer, blocks)?;
            }
        }
        Ok(())
    }

    /// Notes a pointer.
    fn note(&mut self, Pointer { at, address, edge }: Pointer, blocks: bool) -> Result<(), Refused> {
        let known = &self.marked.blocks;
        let source = match self.between {
            _ if !blocks => None,
            Between::Free => known.find_chunk(at),
            Between::Roots | Between::Chunks => known.find(at),
        };
        let Some(Hit { index: source, .. }) = source else {
            match self.between {
                Between::Free => return Ok(()),
                Between::Chunks if !edge.is_start && known.is_next_chunk(address, edge.target) => {
                    return Ok(());
                }
                Between::Roots | Between::Chunks => {}
            }
            self.marked.reach(edge, From::Root(at));
            return Ok(());
        };
        if source == edge.target {
            return Ok(());
        }
        if self.direct && self.marked.is_reachable(source) {
            self.marked.reach(edge, From::Block(source));
            self.marked.follow();
            return Ok(());
        }
        if !self.marked.keep(source, edge) {
            return Err(Refused::Pointers(self.marked.blocks.len()));
        }
        if !self.direct && self.marked.is_filling() {
            self.direct = true;
            self.marked.follow();
        }
        Ok(())
    }
}

/// A word that begins `shift` bytes after `word` does.
#[inline]
fn shifted(word: u64, next: u64, shift: u32) -> u64 {
    if shift == 0 { word } else { word >> (8 * shift) | next << (64 - 8 * shift) }
}
