//! One pass over the memory of a process.

use std::{mem::size_of, ops::Range};

use super::{
    blocks::Blocks,
    directory::{ADDRESS, Hit, Near},
    edges::{Edge, Edges},
    filter::Filter,
    frontier::Frontier,
    mark::{From, Holders, Marked},
    memory::{Between, Memory},
    young::{self, MOST_STRAYS, Stray},
};

/// Words read at a time: 1 MiB.
const WINDOW: usize = 1 << 17;
const PAGE: u64 = 4096;
/// Addresses that are looked up at a time: so many loads are under way at once.
const LOOKUPS: usize = 32;
/// What may be below one: a tag in the low bits of a pointer to the beginning of a block.
pub(super) const TAG: u64 = 7;
/// Where blocks are that were allocated since: so far around the others, in bytes.
const GROWTH: u64 = 64 << 20;
/// Bytes for each block, and beside them, that a scan may use: see [`limit_of`].
const BYTES_PER_BLOCK: usize = 16;
const BYTES_BESIDE: usize = 64 << 20;

/// How to scan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct How {
    /// Whether pointers may be at any address, as in packed structures; otherwise at multiples of 8.
    pub unaligned: bool,
    /// What to record of how each block was reached.
    pub holders: Holders,
    /// Whether an allocator's memory ([`Between::Free`]) has other blocks beside those that are looked for. What its words
    /// point to is then left open: see [`Pending`].
    pub others: bool,
    /// Whether to keep words that point to no known block: see [`Young`](super::Young).
    pub young: bool,
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

/// Memory has been read, and it remains open which of an allocator's words are in blocks that were not looked for, and so
/// are roots.
pub struct Pending {
    pub(super) marked: Marked,
    /// Where such words are, in order, and where they point to.
    open: Vec<(u64, Edge)>,
    pub(super) strays: Vec<Stray>,
}

impl Pending {
    /// The blocks that were looked for.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.marked.blocks
    }

    /// Where the words are that may be roots, in order.
    pub fn open(&self) -> impl Iterator<Item = u64> {
        self.open.iter().map(|(at, _)| *at)
    }

    /// Decides on the blocks. `is_root`: whether a word is one, by its place among those of [`Pending::open`], and by
    /// where it is.
    #[must_use]
    pub fn decide(self, mut is_root: impl FnMut(usize, u64) -> bool) -> Marked {
        let Self { mut marked, open, .. } = self;
        for (place, (at, edge)) in open.into_iter().enumerate() {
            if is_root(place, at) {
                marked.reach(edge, From::Root(at));
            }
        }
        marked.decide();
        marked
    }
}

/// Memory that a scan takes beside what it keeps of pointers, in bytes.
pub(super) fn bytes_beside(blocks: &Blocks, how: How) -> usize {
    let count = blocks.len();
    blocks.bytes()
        + Edges::bytes(count)
        + 3 * Frontier::bytes(count)
        + count * (1 + if how.holders == Holders::Unknown { 0 } else { size_of::<u32>() })
        + if how.young { young::ROOM } else { 0 }
        + 2 * WINDOW * size_of::<u64>()
}

/// Reads `memory` to find out which blocks can be reached from it and from `words`: values that are not in memory, as those
/// of registers. Words in memory that is in no block are roots.
///
/// # Errors
/// There are too many pointers for the memory allowed.
pub fn scan(memory: &mut impl Memory, blocks: Blocks, words: &[u64], how: How) -> Result<Pending, Refused> {
    let room = blocks.limit().saturating_sub(bytes_beside(&blocks, how));
    let open = if how.others { room / 2 } else { 0 };
    let mut scan = Scan {
        filter: Filter::new(blocks.hull(), if how.young { GROWTH } else { 0 }),
        marked: Marked::new(blocks, room - open, how.holders),
        found: Vec::new(),
        pointers: how.unaligned.then(Vec::new),
        open: how.others.then(Vec::new),
        // Its room doubles as it grows, and a census needs half as much beside.
        strays: how.young.then(Vec::new),
        most_open: open / 3 / size_of::<(u64, Edge)>(),
        between: Between::Roots,
        source: None,
        direct: false,
    };
    let mut window = vec![0; WINDOW];
    // Roots first: then most blocks are known to be reachable when they are read.
    let mut with_blocks: Vec<Range<u64>> = Vec::new();
    let mut from = 0;
    while let Some(part) = memory.next(from) {
        from = part.end;
        if scan.marked.blocks.may_touch(&part) {
            with_blocks.push(part);
        } else {
            scan.part(memory, part, false, &mut window)?;
        }
    }
    // After variables: what one of them holds too is better known by that.
    for (place, word) in (0u64..).zip(words) {
        let address = word & ADDRESS;
        match (scan.edge(address, scan.marked.blocks.near(address)), &mut scan.strays) {
            (Some(edge), _) => scan.marked.reach(edge, From::Root(EXTRA | place)),
            (None, Some(strays)) => strays.push(Stray { source: None, at: EXTRA | place, address }),
            (None, None) => {}
        }
    }
    for part in with_blocks {
        scan.part(memory, part, true, &mut window)?;
    }
    let Scan { marked, open, strays, .. } = scan;
    let mut open = open.unwrap_or_default();
    open.sort_unstable_by_key(|(at, _)| *at);
    Ok(Pending { marked, open, strays: strays.unwrap_or_default() })
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

/// The block that was read last, and the addresses in it.
struct Source {
    index: u32,
    range: Range<u64>,
}

/// A scan on its way.
struct Scan {
    filter: Filter,
    marked: Marked,
    /// Where in the window there may be pointers.
    found: Vec<u32>,
    /// Pointers at any addresses, until they are in order; `None`: only those at multiples of 8 count.
    pointers: Option<Vec<Pointer>>,
    /// Words that may be roots, and where they point to; `None`: there are no other blocks that they may be in.
    open: Option<Vec<(u64, Edge)>>,
    most_open: usize,
    /// Words that point to no known block; `None`: they are of no interest.
    strays: Option<Vec<Stray>>,
    /// What the part that is read is where no block is known.
    between: Between,
    /// In that part.
    source: Option<Source>,
    /// Whether pointers of reachable blocks are not kept.
    direct: bool,
}

impl Scan {
    /// The block that an address is in. `near`: what is near it.
    #[inline]
    fn edge(&self, address: u64, near: Near) -> Option<Edge> {
        let Hit { index, start } = self.marked.blocks.find_near(address, near)?;
        Some(Edge { target: index, is_start: address & !TAG == start })
    }

    /// Reads a part into `words` and notes its pointers. `blocks`: whether there may be blocks in it.
    fn part(
        &mut self,
        memory: &mut impl Memory,
        part: Range<u64>,
        blocks: bool,
        words: &mut [u64],
    ) -> Result<(), Refused> {
        self.between = memory.between(&part);
        self.source = None;
        let mut from = part.start;
        while from < part.end {
            let length = (((part.end - from) / 8) as usize).min(WINDOW);
            let Some(window) = words.get_mut(..length) else { break };
            let read = memory.read(from, window).min(length);
            self.window(from, window.get_mut(..read).unwrap_or_default(), blocks)?;
            // What follows a page that is no longer there may still be.
            from = if read > 0 { from + (read * 8) as u64 } else { (from & !(PAGE - 1)) + PAGE };
        }
        Ok(())
    }

    /// Notes the pointers among words that were read at `from`. They are changed.
    fn window(&mut self, from: u64, words: &mut [u64], blocks: bool) -> Result<(), Refused> {
        let mut found = std::mem::take(&mut self.found);
        let mut pointers = self.pointers.take();
        let shifts = if pointers.is_some() { 8 } else { 1 };
        for shift in 0..shifts {
            if shift > 0 {
                let mut next = 0;
                for word in words.iter_mut().rev() {
                    (*word, next) = (*word >> 8 | next << 56, *word);
                }
            }
            self.filter.find(words, &mut found);
            for places in found.chunks(LOOKUPS) {
                let address = |place: u32| words.get(place as usize).map_or(0, |word| word & ADDRESS);
                let mut near = [Near::default(); LOOKUPS];
                for (near, &place) in near.iter_mut().zip(places) {
                    *near = self.marked.blocks.near(address(place));
                }
                let mut edges = [None; LOOKUPS];
                for ((edge, near), &place) in edges.iter_mut().zip(near).zip(places) {
                    *edge = self.edge(address(place), near);
                }
                let reached = self.marked.are_reachable(&edges);
                for ((edge, is_reached), &place) in edges.into_iter().zip(reached).zip(places) {
                    // A pointer to what has been reached tells nothing new.
                    if is_reached {
                        continue;
                    }
                    let address = address(place);
                    let at = from + u64::from(place) * 8 + shift;
                    let Some(edge) = edge else {
                        self.stray(at, address, blocks);
                        continue;
                    };
                    let pointer = Pointer { at, address, edge };
                    match &mut pointers {
                        Some(pointers) => pointers.push(pointer),
                        None => self.note(pointer, blocks)?,
                    }
                }
            }
        }
        if let Some(pointers) = &mut pointers {
            // Pointers of blocks are kept in order of their addresses.
            pointers.sort_unstable_by_key(|pointer| pointer.at);
            pointers.drain(..).try_for_each(|pointer| self.note(pointer, blocks))?;
        }
        (self.found, self.pointers) = (found, pointers);
        Ok(())
    }

    /// Keeps a word that points to no known block.
    #[inline]
    fn stray(&mut self, at: u64, address: u64, blocks: bool) {
        if self.strays.as_ref().is_none_or(|strays| strays.len() >= MOST_STRAYS) {
            return;
        }
        let source = if blocks { self.source(at) } else { None };
        // Pointers of an allocator's own are not the program's.
        let is_own = source.is_none() && self.between != Between::Roots;
        if let Some(strays) = self.strays.as_mut().filter(|_| !is_own) {
            strays.push(Stray { source, at, address });
        }
    }

    /// The block in which `at` is, or the rest of its chunk that belongs to it.
    #[inline]
    fn source(&mut self, at: u64) -> Option<u32> {
        if let Some(source) = &self.source
            && source.range.contains(&at)
        {
            return Some(source.index);
        }
        let known = &self.marked.blocks;
        let (hit, size): (_, fn(&Blocks, u32) -> u64) = match self.between {
            Between::Rounded => (known.find_chunk(at), Blocks::usable),
            Between::Free | Between::Roots | Between::Chunks => (known.find(at), Blocks::size),
        };
        let Hit { index, start } = hit?;
        self.source = Some(Source { index, range: start..start + size(known, index) });
        Some(index)
    }

    /// Notes a pointer.
    #[inline]
    fn note(&mut self, Pointer { at, address, edge }: Pointer, blocks: bool) -> Result<(), Refused> {
        let Some(source) = (if blocks { self.source(at) } else { None }) else {
            let known = &self.marked.blocks;
            match self.between {
                Between::Free | Between::Rounded => {
                    let open = self.open.as_mut().filter(|_| !self.marked.is_reachable(edge.target));
                    let Some(open) = open else { return Ok(()) };
                    if open.len() >= self.most_open {
                        return Err(Refused::Pointers(self.marked.blocks.len()));
                    }
                    open.push((at, edge));
                    return Ok(());
                }
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
            return Ok(());
        }
        if self.marked.keep(source, edge) {
            return Ok(());
        }
        self.direct = true;
        if self.marked.make_room() {
            // It may have been reached only now.
            return self.note(Pointer { at, address, edge }, blocks);
        }
        Err(Refused::Pointers(self.marked.blocks.len()))
    }
}
