//! What can be reached from the roots, and what cannot.

use rustc_hash::FxHashMap;

use super::{
    blocks::{Blocks, Collected},
    edges::{self, Cursor, Edge, Edges},
    frontier::Frontier,
};

/// How a block can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// From a root, by pointers to where blocks begin.
    Reachable,
    /// From a root, but only through a pointer to the middle of a block.
    Possibly,
    /// Not at all, and no other lost block points to it, or it is the first of a cycle.
    Lost,
    /// Only from a lost block.
    IndirectlyLost,
}

/// What is recorded of how a block was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Holders {
    /// Nothing.
    #[default]
    Unknown,
    /// From which root: [`Marked::held`].
    Roots,
    /// From which root, by which way: [`Marked::path`].
    Paths,
}

/// Bits of a block's state. None: it has not been reached.
const REACHABLE: u8 = 1;
const POSSIBLE: u8 = 2;
const LOST: u8 = 4;
const INDIRECT: u8 = 8;

/// The most memory for pointers.
const MOST_BYTES: usize = edges::MOST * size_of::<u32>();
/// Of the room for pointers one part in so many has to be won each time that it is full: this takes a while.
const LEAST_ROOM: usize = 16;

/// A parent that is a root: the rest is its place in `roots`.
pub(super) const ROOT: u32 = 1 << 31;
/// A block without a parent.
pub(super) const NONE: u32 = u32::MAX;

/// Where a mark came from.
#[derive(Clone, Copy)]
pub(super) enum From {
    /// A root word: its address, or the place of an extra one.
    Root(u64),
    /// A block.
    Block(u32),
}

/// Blocks and what was found out about them.
pub struct Marked {
    pub(super) blocks: Blocks,
    edges: Edges,
    states: Vec<u8>,
    /// Who reached each block first, or from which root; empty if that was not asked for.
    pub(super) parents: Vec<u32>,
    pub(super) holders: Holders,
    /// The root words that are parents.
    pub(super) roots: Vec<u64>,
    /// Reached, with edges that have not been followed.
    next: Frontier,
    /// The same through the middle of a block.
    possible: Frontier,
    /// Whose edges are followed.
    current: Frontier,
    /// For each block that is lost directly, the bytes that are lost through it.
    through: FxHashMap<u32, u64>,
    /// Memory for edges and roots, in bytes.
    room: usize,
}

impl Marked {
    /// `room`: memory for pointers that are kept, in bytes.
    pub(super) fn new(blocks: Blocks, room: usize, holders: Holders) -> Self {
        let len = blocks.len();
        Self {
            edges: Edges::new(len),
            states: vec![0; len],
            parents: if holders == Holders::Unknown { Vec::new() } else { vec![NONE; len] },
            holders,
            roots: Vec::new(),
            next: Frontier::new(len),
            possible: Frontier::new(len),
            current: Frontier::new(len),
            through: FxHashMap::default(),
            room: room.min(MOST_BYTES),
            blocks,
        }
    }

    /// A root or a reachable block has a pointer.
    pub(super) fn reach(&mut self, edge: Edge, from: From) {
        let Some(state) = self.states.get_mut(edge.target as usize) else { return };
        if edge.is_start && *state & REACHABLE == 0 {
            *state |= REACHABLE;
            self.next.add(edge.target);
        } else if !edge.is_start && *state & (REACHABLE | POSSIBLE) == 0 {
            *state |= POSSIBLE;
            self.possible.add(edge.target);
        } else {
            return;
        }
        if self.holders == Holders::Unknown {
            return;
        }
        let parent = match from {
            From::Block(block) if self.holders == Holders::Paths => block,
            From::Block(block) => self.parents.get(block as usize).copied().unwrap_or(NONE),
            From::Root(root) => {
                self.roots.push(root);
                ROOT | (self.roots.len() - 1) as u32
            }
        };
        if let Some(place) = self.parents.get_mut(edge.target as usize) {
            *place = parent;
        }
    }

    /// Keeps a pointer of a block. Returns whether there was room.
    #[inline]
    pub(super) fn keep(&mut self, source: u32, edge: Edge) -> bool {
        let has_room = self.used() < self.room;
        if has_room {
            self.edges.add(source, edge);
        }
        has_room
    }

    /// Memory that pointers take, in bytes.
    fn used(&self) -> usize {
        self.edges.len() * size_of::<u32>() + self.roots.len() * size_of::<u64>()
    }

    /// Makes room for more pointers: follows those of what has been reached, and forgets them. If that is not enough, it also
    /// forgets who reached whom. Returns whether there is some room.
    pub(super) fn make_room(&mut self) -> bool {
        self.follow();
        let states = &self.states;
        self.edges.retain(|block| states.get(block as usize).is_some_and(|state| state & REACHABLE == 0));
        let least = (self.room / LEAST_ROOM).max(size_of::<u32>());
        if self.used() + least <= self.room {
            return true;
        }
        if self.holders == Holders::Unknown {
            return false;
        }
        self.holders = Holders::Unknown;
        self.room = (self.room + self.parents.len() * size_of::<u32>()).min(MOST_BYTES);
        (self.parents, self.roots) = (Vec::new(), Vec::new());
        true
    }

    #[inline]
    pub(super) fn is_reachable(&self, block: u32) -> bool {
        self.states.get(block as usize).is_some_and(|state| state & REACHABLE != 0)
    }

    /// Whether each leads to a block that is reachable. Without a branch, so that many loads are under way at once.
    #[inline]
    pub(super) fn are_reachable<const N: usize>(&self, edges: &[Option<Edge>; N]) -> [bool; N] {
        edges.map(|edge| self.is_reachable(edge.map_or(NONE, |edge| edge.target)))
    }

    /// Follows pointers from what has been reached. What is nearer to a root comes first: the way to each block is a
    /// shortest one.
    pub(super) fn follow(&mut self) {
        // Edges are not changed meanwhile, nor what is followed.
        let edges = std::mem::take(&mut self.edges);
        let mut current = std::mem::take(&mut self.current);
        while !self.next.is_empty() {
            std::mem::swap(&mut self.next, &mut current);
            let mut cursor = Cursor::default();
            for block in current.iter() {
                for edge in edges.behind(block, &mut cursor) {
                    self.reach(edge, From::Block(block));
                }
            }
            current.clear();
        }
        (self.edges, self.current) = (edges, current);
    }

    /// The same, and then from what has been reached through the middle of a block.
    pub(super) fn follow_all(&mut self) {
        self.follow();
        self.follow_possible();
    }

    /// Follows pointers from what has been reached through the middle of a block, perhaps only by chance.
    fn follow_possible(&mut self) {
        let edges = std::mem::take(&mut self.edges);
        let mut current = std::mem::take(&mut self.current);
        while !self.possible.is_empty() {
            std::mem::swap(&mut self.possible, &mut current);
            for block in current.iter() {
                // Otherwise its edges have been followed.
                if self.is_reachable(block) {
                    continue;
                }
                for edge in edges.of(block) {
                    self.reach(Edge { is_start: false, ..edge }, From::Block(block));
                }
            }
            current.clear();
        }
        (self.edges, self.current) = (edges, current);
    }

    /// Decides on all blocks, once all pointers are known.
    pub(super) fn decide(&mut self) {
        self.follow_all();
        (self.next, self.possible, self.current) = Default::default();
        self.divide();
    }

    /// Divides lost blocks into those that no other lost one points to and the rest, as valgrind's memcheck does: in order
    /// of address, each block not seen yet is lost directly, and what it leads to indirectly; so a cycle counts as its first
    /// block and the rest (lc_process_markstack in memcheck/mc_leakcheck.c).
    fn divide(&mut self) {
        let mut stack = Vec::new();
        for first in 0..self.states.len() {
            if self.states.get(first) != Some(&0) {
                continue;
            }
            let first = first as u32;
            let mut through = 0;
            self.set(first, LOST);
            stack.push(first);
            while let Some(block) = stack.pop() {
                for Edge { target, .. } in self.edges.of(block) {
                    let Some(state) = self.states.get_mut(target as usize) else { continue };
                    if target == first || *state & (INDIRECT | REACHABLE | POSSIBLE) != 0 {
                        continue;
                    }
                    if *state == 0 {
                        stack.push(target);
                    }
                    *state = INDIRECT;
                    through += self.blocks.size(target) + self.through.remove(&target).unwrap_or(0);
                }
            }
            if through > 0 {
                self.through.insert(first, through);
            }
        }
    }

    fn set(&mut self, block: u32, state: u8) {
        if let Some(place) = self.states.get_mut(block as usize) {
            *place = state;
        }
    }

    /// The blocks.
    #[must_use]
    pub fn blocks(&self) -> &Blocks {
        &self.blocks
    }

    /// The state of a block.
    #[must_use]
    pub fn state(&self, block: u32) -> State {
        let state = self.states.get(block as usize).copied().unwrap_or(0);
        match state {
            _ if state & REACHABLE != 0 => State::Reachable,
            _ if state & POSSIBLE != 0 => State::Possibly,
            _ if state & INDIRECT != 0 => State::IndirectlyLost,
            _ => State::Lost,
        }
    }

    /// The bytes of blocks that are lost because a directly lost one is.
    #[must_use]
    pub fn lost_through(&self, block: u32) -> u64 {
        self.through.get(&block).copied().unwrap_or(0)
    }

    /// Whether a block is lost, directly or indirectly.
    #[must_use]
    pub fn is_lost(&self, block: u32) -> bool {
        self.states.get(block as usize).is_some_and(|state| state & (REACHABLE | POSSIBLE) == 0)
    }

    /// The lost blocks in order: where each begins, and its number.
    pub fn lost(&self) -> impl Iterator<Item = (u64, u32)> {
        let is_lost = |state: &u8| state & (REACHABLE | POSSIBLE) == 0;
        // Most groups have none.
        let groups = self.blocks.groups().filter(move |(blocks, _)| {
            let states = self.states.get(blocks.start as usize..blocks.end as usize);
            states.is_some_and(|states| states.iter().any(is_lost))
        });
        let blocks = groups.flat_map(|(blocks, starts)| starts.zip(blocks));
        blocks.filter(|&(_, block)| self.is_lost(block))
    }

    /// The pointers from lost blocks to lost blocks: where each of the two begins.
    #[must_use]
    pub fn lost_pointers(&self) -> Vec<(u64, u64)> {
        let lost: Vec<(u64, u32)> = self.lost().collect();
        let start_of = |block: u32| {
            let place = lost.binary_search_by_key(&block, |&(_, block)| block).ok()?;
            lost.get(place).map(|&(start, _)| start)
        };
        let pointers = lost.iter().flat_map(|&(start, block)| {
            let edges = self.edges.of(block).filter(|edge| self.is_lost(edge.target));
            edges.filter_map(move |edge| Some((start, start_of(edge.target)?)))
        });
        pointers.collect()
    }

    /// Just those of the blocks that begin at these addresses. `None`: there is no room for them beside what this takes.
    #[must_use]
    pub fn only(&self, starts: &[u64]) -> Option<Blocks> {
        let mut collected = Collected::new();
        for &start in starts {
            let block = self.blocks.beginning_at(start)?;
            collected.add(start, self.blocks.size(block));
        }
        let used = self.blocks.bytes()
            + self.states.len()
            + self.parents.len() * size_of::<u32>()
            + self.roots.len() * size_of::<u64>();
        collected.finish_within(self.blocks.limit().saturating_sub(used))
    }

    /// Gives back the memory of pointers in blocks, which are needed for nothing else.
    pub fn forget_pointers(&mut self) {
        self.edges = Edges::default();
    }
}
