//! Heaps built word by word.

use std::ops::Range;

use super::super::{
    Block, Census, Kind, Peek, Refused, Region, Visit, census,
    layout::{HEADER, IS_MMAPPED, KeyKind, LAYOUTS, Layout, NON_MAIN_ARENA, PREV_INUSE, arena, cache},
};

pub(super) const DATA: u64 = 0x7f00_0000_0000;
pub(super) const MAIN_ARENA: u64 = DATA + 0x400;
const PARAMETERS: u64 = DATA + 0xe00;
pub(super) const BRK: u64 = 0x5500_0000_0000;
/// A heap of a second arena, and memory of another use.
pub(super) const HEAP: u64 = 0x7e00_0000_0000;
pub(super) const OTHER: u64 = 0x7e80_0000_0000;
const KEY: u64 = 0x1234_5678_9abc_def1;

/// The memory of a process with a heap.
pub(super) struct Built {
    pub(super) layout: &'static Layout,
    parts: Vec<(Region, Vec<u64>)>,
    /// Pages that seem to be empty until they are read anew.
    pub(super) late: Range<u64>,
    pub(super) words_read: usize,
}

impl Built {
    /// A main arena with 1 MiB, of which all is top, but for the cache of the main thread.
    pub(super) fn new(layout: &'static Layout) -> Self {
        let part = |start: u64, length: u64, kind| {
            (Region { range: start..start + length, kind }, vec![0; (length / 8) as usize])
        };
        let parts = vec![
            part(BRK, 1 << 20, Kind::Heap),
            part(HEAP, 2 << 20, Kind::Anonymous),
            part(OTHER, 1 << 20, Kind::Anonymous),
            part(DATA, 0x2000, Kind::File),
        ];
        let mut built = Self { layout, parts, late: 0..0, words_read: 0 };
        built.arena(MAIN_ARENA, MAIN_ARENA, 1 << 20);
        let parameters = layout.parameters;
        built.put(PARAMETERS, &[128 << 10, 128 << 10, 128 << 10, 8, 0]);
        built.mapped(0, 0);
        built.put(PARAMETERS + parameters.sizes + 16, &[BRK, 64, 1032, 7]);
        built.chunk(BRK, cache::CHUNK, PREV_INUSE);
        built.top(MAIN_ARENA, BRK + cache::CHUNK, BRK + (1 << 20));
        built
    }

    /// That of the newest layout.
    pub(super) fn newest() -> Self {
        Self::new(LAYOUTS.last().unwrap())
    }

    pub(super) fn put(&mut self, address: u64, words: &[u64]) {
        let (region, memory) =
            self.parts.iter_mut().find(|(region, _)| region.range.contains(&address)).unwrap();
        let place = ((address - region.range.start) / 8) as usize;
        memory[place..place + words.len()].copy_from_slice(words);
    }

    pub(super) fn word(&self, address: u64) -> u64 {
        let (region, memory) = self.parts.iter().find(|(region, _)| region.range.contains(&address)).unwrap();
        memory[((address - region.range.start) / 8) as usize]
    }

    /// An arena with empty bins.
    pub(super) fn arena(&mut self, address: u64, next: u64, system: u64) {
        for bin in 0..arena::BIN_COUNT {
            let at = address + arena::BINS + bin * 16;
            self.put(at, &[at - arena::FD; 2]);
        }
        self.put(address + arena::NEXT, &[next]);
        self.put(address + arena::ATTACHED_THREADS, &[1, system, system]);
    }

    /// What `mp_` says of mappings.
    pub(super) fn mapped(&mut self, count: u32, bytes: u64) {
        let layout = self.layout.parameters;
        let counts = PARAMETERS + layout.counts;
        for (place, value) in (0u64..).zip([count, 65_536, count, 0]) {
            let at = counts + place * 4;
            let (word, shift) = (at & !7, at % 8 * 8);
            let others = self.word(word) & !(0xffff_ffff << shift);
            self.put(word, &[others | u64::from(value) << shift]);
        }
        self.put(PARAMETERS + layout.sizes, &[bytes, bytes]);
    }

    /// The header of a chunk.
    pub(super) fn chunk(&mut self, address: u64, size: u64, flags: u64) {
        self.put(address + 8, &[size | flags]);
    }

    /// Chunks one after another, and the top chunk behind them. Of each the size, and whether it is in use. Returns what the
    /// program has.
    pub(super) fn chunks(&mut self, arena: u64, first: u64, end: u64, chunks: &[(u64, bool)]) -> Vec<u64> {
        let non_main = if arena == MAIN_ARENA { 0 } else { NON_MAIN_ARENA };
        let (mut at, mut before) = (first, PREV_INUSE);
        let mut users = Vec::new();
        for &(size, in_use) in chunks {
            self.chunk(at, size, before | if in_use { non_main } else { 0 });
            users.push(at + HEADER);
            at += size;
            before = if in_use { PREV_INUSE } else { 0 };
            if !in_use {
                self.put(at, &[size]);
            }
        }
        self.top(arena, at, end);
        self.put(at + 8, &[(end - at) | before]);
        users
    }

    pub(super) fn top(&mut self, arena: u64, address: u64, end: u64) {
        self.put(arena + arena::TOP, &[address]);
        self.chunk(address, end - address, PREV_INUSE);
    }

    /// Chunks of the main arena behind the cache.
    pub(super) fn main(&mut self, chunks: &[(u64, bool)]) -> Vec<u64> {
        self.chunks(MAIN_ARENA, BRK + cache::CHUNK, BRK + (1 << 20), chunks)
    }

    /// A second arena with a heap of 1 MiB. Returns its address and where its chunks begin.
    pub(super) fn second(&mut self) -> (u64, u64) {
        let address = HEAP + self.layout.heap_info;
        self.put(HEAP, &[address, 0, 1 << 20, 1 << 20]);
        self.arena(address, MAIN_ARENA, 1 << 20);
        self.put(MAIN_ARENA + arena::NEXT, &[address]);
        (address, (address + arena::SIZE).next_multiple_of(16))
    }

    /// The link of a list at an address.
    pub(super) fn link(&mut self, address: u64, next: u64) {
        // Mangling is its own inverse.
        self.put(address, &[self.layout.link(address, next)]);
    }

    /// Puts blocks of one size into the cache of the main thread.
    pub(super) fn cached(&mut self, users: &[u64], size: u64) {
        self.cached_by(BRK + HEADER, users, size);
    }

    /// Puts blocks of one size into a cache.
    pub(super) fn cached_by(&mut self, lists: u64, users: &[u64], size: u64) {
        let bin = (size - 32) / 16;
        let key = if self.layout.key == KeyKind::Cache { lists } else { KEY };
        let count = self.word(lists + bin / 4 * 8) | (users.len() as u64) << (bin % 4 * 16);
        self.put(lists + bin / 4 * 8, &[count]);
        self.put(lists + 128 + bin * 8, &users[..1]);
        for (place, &user) in users.iter().enumerate() {
            self.link(user, users.get(place + 1).copied().unwrap_or(0));
            self.put(user + 8, &[key]);
        }
    }

    /// The key of a cache in a block that is in none.
    pub(super) fn stale(&mut self, user: u64) {
        let key = if self.layout.key == KeyKind::Cache { BRK + HEADER } else { KEY };
        self.put(user + 8, &[key]);
    }

    /// Puts blocks of one size into a fast bin.
    pub(super) fn fast(&mut self, arena: u64, users: &[u64], size: u64) {
        self.put(arena + arena::FASTBINS + (size - 32) / 2, &[users[0] - HEADER]);
        for (place, &user) in users.iter().enumerate() {
            self.link(user, users.get(place + 1).map_or(0, |next| next - HEADER));
        }
    }

    /// A chunk that is a mapping of its own.
    pub(super) fn mapping(&mut self, address: u64, lead: u64, size: u64) {
        self.put(address, &[0, (lead + size) | IS_MMAPPED]);
        self.put(address + lead, &[lead, size | IS_MMAPPED]);
    }

    pub(super) fn census(&mut self) -> Result<(Census, Vec<Block>), Refused> {
        let regions: Vec<Region> = self.parts.iter().map(|(region, _)| region.clone()).collect();
        let mut blocks = Vec::new();
        let census = census(self, &regions, |visit| match visit {
            Visit::Block(block) => blocks.push(block),
            Visit::Again => blocks.clear(),
        })?;
        blocks.sort_by_key(|block| block.address);
        Ok((census, blocks))
    }

    /// The blocks of a census that is whole, without the cache of the main thread.
    pub(super) fn blocks(&mut self) -> (Census, Vec<(u64, u64)>) {
        let (census, blocks) = self.census().unwrap();
        assert!(census.missed.is_nothing(), "{:?}", census.missed);
        let blocks = blocks.iter().map(|block| (block.address, block.size));
        (census, blocks.filter(|block| *block != (BRK + HEADER, cache::CHUNK - 8)).collect())
    }
}

impl Peek for Built {
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize {
        let count = self.read_anew(address, words);
        for (place, word) in (0u64..).zip(words) {
            if self.late.contains(&(address + place * 8)) {
                *word = 0;
            }
        }
        count
    }

    fn read_anew(&mut self, address: u64, words: &mut [u64]) -> usize {
        self.words_read += words.len();
        let Some((region, from)) = self.parts.iter().find(|(region, _)| region.range.contains(&address))
        else {
            return 0;
        };
        let rest = &from[((address - region.range.start) / 8) as usize..];
        let count = rest.len().min(words.len());
        words[..count].copy_from_slice(&rest[..count]);
        count
    }

    fn present(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let mut regions: Vec<_> = self.parts.iter().map(|(region, _)| region.range.clone()).collect();
        regions.sort_by_key(|region| region.start);
        let region = regions.into_iter().find(|region| region.end > range.start)?;
        let run = region.start.max(range.start)..region.end.min(range.end);
        (!run.is_empty()).then_some(run)
    }
}
