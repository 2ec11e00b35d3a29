//! Blocks that were allocated while a scan was under way: too late to be among those that it looks for.
//!
//! A list that grows at its head begins with such blocks, so that nothing known leads to the others. A scan therefore keeps
//! the words that point to no known block; what the allocator has handed out meanwhile tells which of them lead on.

use super::{
    blocks::{Blocks, Collected},
    directory::ADDRESS,
    edges::Edge,
    holders::Via,
    mark::{From, Holders, Marked, State},
    memory::Memory,
    scan::{Pending, TAG},
};

/// The most words that are kept.
pub(super) const MOST_STRAYS: usize = 1 << 17;
/// The most young blocks, their pointers, and the bytes of them that are read.
const MOST_BLOCKS: usize = 1 << 19;
const MOST_POINTERS: usize = 1 << 20;
const MOST_BYTES: u64 = 64 << 20;
/// Memory for the blocks, in bytes: more than that only where they are far apart.
const MEMORY: usize = 16 << 20;
/// Memory that all of this takes, in bytes: words while their room doubles, blocks, and what is found out about those.
pub(super) const ROOM: usize = 3 * MOST_STRAYS * size_of::<Stray>() / 2
    + MEMORY
    + MOST_BLOCKS * (size_of::<(u64, u64)>() + size_of::<u32>() + 1)
    + MOST_POINTERS * size_of::<u32>();
/// Words read at a time. Blocks that follow each other are read together.
const WINDOW: usize = 1 << 13;
/// Bytes between two blocks that are read with them.
const GAP: u64 = 64;
/// A known block may point to a young one that points to another known one, and so on: so many times.
const ROUNDS: usize = 8;

/// A word that points to no known block.
#[derive(Clone, Copy)]
pub(super) struct Stray {
    /// The block that it is in; `None`: it is a root.
    pub(super) source: Option<u32>,
    /// Where it is, or `EXTRA` and its place.
    pub(super) at: u64,
    /// What it points to.
    pub(super) address: u64,
}

impl Stray {
    fn from(&self) -> From {
        self.source.map_or(From::Root(self.at), From::Block)
    }
}

/// Young blocks while they are collected.
pub struct Young<'a> {
    known: &'a Blocks,
    collected: Collected,
}

impl<'a> Young<'a> {
    /// None yet. `pending`: the scan that was under way.
    #[must_use]
    pub fn new(pending: &'a Pending) -> Self {
        Self { known: pending.blocks(), collected: Collected::new() }
    }

    /// Adds a block if it is not one that the scan knows. Beyond a limit there are no more.
    pub fn add(&mut self, address: u64, size: u64) {
        if self.collected.len() < MOST_BLOCKS && self.known.beginning_at(address).is_none() {
            self.collected.add(address, size);
        }
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.collected = Collected::new();
    }

    /// The blocks. `None`: there are none, or they are too far apart.
    #[must_use]
    pub fn finish(self) -> Option<Blocks> {
        (self.collected.len() > 0).then(|| self.collected.finish_within(MEMORY)).flatten()
    }
}

impl Pending {
    /// Whether young blocks may lead to something that was not reached.
    pub fn wants_young(&mut self) -> bool {
        if self.strays.is_empty() {
            return false;
        }
        self.marked.follow_all();
        self.marked.lost().next().is_some()
    }

    /// Follows pointers through young blocks, which are read now.
    pub fn through(&mut self, young: Blocks, memory: &mut impl Memory) {
        let Self { marked: known, strays, .. } = self;
        let mut young = Marked::new(young, MOST_POINTERS * size_of::<u32>(), Holders::Paths);
        let leading = read(&mut young, known, memory);
        let strays: Vec<(Stray, Edge)> =
            strays.drain(..).filter_map(|stray| Some((stray, edge(&young.blocks, stray.address)?))).collect();
        for _ in 0..ROUNDS {
            // What is left on stacks may point to the newest blocks: what a known block holds too is better known by that.
            for in_block in [true, false] {
                for ((stray, edge), place) in strays.iter().zip(0u64..) {
                    let source = stray.source.map_or(State::Reachable, |source| known.state(source));
                    if let Some(edge) = edge.from(source).filter(|_| stray.source.is_some() == in_block) {
                        young.reach(edge, From::Root(place));
                    }
                }
                young.follow_all();
            }
            let mut is_more = false;
            for &(source, edge) in &leading {
                let Some(edge) = edge.from(young.state(source)) else { continue };
                let from = young.path(source).and_then(|path| match path.root {
                    Via::Memory(place) => strays.get(place as usize).map(|(stray, _)| stray.from()),
                    Via::Word(_) => None,
                });
                if let Some(from) = from.filter(|_| known.is_lost(edge.target)) {
                    known.reach(edge, from);
                    is_more = true;
                }
            }
            if !is_more {
                break;
            }
            known.follow_all();
        }
    }
}

impl Edge {
    /// As it counts in a block of that state.
    fn from(self, state: State) -> Option<Self> {
        match state {
            State::Reachable => Some(self),
            State::Possibly => Some(Self { is_start: false, ..self }),
            State::Lost | State::IndirectlyLost => None,
        }
    }
}

/// What a word points to, if it is one of these blocks.
fn edge(blocks: &Blocks, address: u64) -> Option<Edge> {
    let hit = blocks.find(address)?;
    let is_start = address & !TAG == hit.start;
    (is_start || address & TAG == 0).then_some(Edge { target: hit.index, is_start })
}

/// Reads young blocks: notes where they point to among themselves, and returns where they point to among those that are
/// known and have not been reached.
fn read(young: &mut Marked, known: &Marked, memory: &mut impl Memory) -> Vec<(u32, Edge)> {
    let places: Vec<(u64, u64)> =
        young.blocks.starts().zip(0u32..).map(|(start, number)| (start, young.blocks.size(number))).collect();
    let mut leading = Vec::new();
    let mut words = vec![0; WINDOW];
    let (mut from, mut until, mut bytes) = (0, 0, 0);
    for (&(start, size), number) in places.iter().zip(0u32..) {
        let end = start.saturating_add(size) & !7;
        let mut at = start;
        while at < end {
            if at < from || at >= until {
                // With as many of those that follow as there is room for.
                let most = at + (WINDOW * 8) as u64;
                let rest = places.get(number as usize + 1..).unwrap_or_default();
                let near = rest.iter().scan(end, |end, &(start, size)| {
                    (start <= *end + GAP && *end < most).then(|| {
                        *end = start.saturating_add(size) & !7;
                        *end
                    })
                });
                let last = near.last().unwrap_or(end).min(most).max(at + 8);
                let length = (((last - at) / 8) as usize).min(WINDOW);
                let read = memory.read(at, words.get_mut(..length).unwrap_or_default());
                (from, until) = (at, at + (read * 8) as u64);
                bytes += (length * 8) as u64;
                if bytes > MOST_BYTES || read == 0 {
                    break;
                }
            }
            let part = words.get((at - from) as usize / 8..(end.min(until) - from) as usize / 8);
            for word in part.unwrap_or_default() {
                let address = word & ADDRESS;
                if let Some(edge) = edge(&young.blocks, address) {
                    if edge.target != number {
                        young.keep(number, edge);
                    }
                } else if let Some(edge) = edge(&known.blocks, address)
                    && known.is_lost(edge.target)
                    && leading.len() < MOST_POINTERS
                {
                    leading.push((number, edge));
                }
            }
            at = end.min(until);
        }
    }
    leading
}
