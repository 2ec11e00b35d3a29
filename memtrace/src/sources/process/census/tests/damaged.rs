//! Censuses of copies of real heaps that were damaged: they end, with a bounded number of reads, and say nothing impossible.
//! `MEMTRACE_DAMAGED_ROUNDS` in the environment sets how many.

use std::{ops::Range, thread::sleep, time::Duration};

use super::{
    super::TargetMemory,
    jemalloc::libraries,
    program::{How, Program},
};
use crate::heap::census::{Allocator, Block, Kind, Peek, Region, Visit, census, jemalloc};

/// Words that a census of a small heap may read: a whole one takes a hundredth of it.
const MOST_WORDS: usize = 1 << 26;

/// A copy of memory.
#[derive(Clone)]
struct Copy {
    parts: Vec<(Region, Vec<u64>)>,
    words_read: usize,
}

impl Copy {
    fn of(pid: u32) -> Self {
        let mut memory = TargetMemory::open(pid).unwrap();
        let mut parts = Vec::new();
        for region in memory.regions() {
            // Memory that was reserved for stacks and heaps is not all there.
            let mut words = vec![0; ((region.range.end - region.range.start) / 8) as usize];
            let count = memory.read(region.range.start, &mut words);
            words.truncate(count);
            parts.push((region, words));
        }
        Self { parts, words_read: 0 }
    }

    fn regions(&self) -> Vec<Region> {
        self.parts.iter().map(|(region, _)| region.clone()).collect()
    }
}

impl Peek for Copy {
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize {
        self.words_read += words.len();
        assert!(self.words_read < MOST_WORDS, "too much is read");
        let Some((region, from)) = self.parts.iter().find(|(region, _)| region.range.contains(&address))
        else {
            return 0;
        };
        let rest = &from[((address - region.range.start) / 8) as usize..];
        let count = rest.len().min(words.len());
        words[..count].copy_from_slice(&rest[..count]);
        count
    }

    fn read_anew(&mut self, address: u64, words: &mut [u64]) -> usize {
        self.read(address, words)
    }

    fn present(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let (region, _) = self.parts.iter().find(|(region, _)| region.range.end > range.start)?;
        let run = region.range.start.max(range.start)..region.range.end.min(range.end);
        (!run.is_empty()).then_some(run)
    }
}

fn next(seed: &mut u64) -> u64 {
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    *seed
}

/// A word in place of another one: near it, a pointer to somewhere, a size, or anything.
fn damage(copy: &mut Copy, seed: &mut u64, places: &[(usize, usize)]) {
    let (part, place) = places[next(seed) as usize % places.len()];
    let &(to, target) = &places[next(seed) as usize % places.len()];
    let pointer = copy.parts[to].0.range.start + target as u64 * 8;
    let word = &mut copy.parts[part].1[place];
    *word = match next(seed) % 9 {
        0 => 0,
        1 => *word ^ 1 << (next(seed) % 64),
        2 => word.wrapping_add(16),
        3 => pointer & !15,
        4 => pointer >> 12 ^ pointer,
        5 => ((next(seed) % (1 << 20)) & !15) | (next(seed) % 8),
        6 => u64::MAX - next(seed) % 64,
        7 => *word & !1,
        _ => next(seed),
    };
}

/// Blocks are apart from each other and in memory that there is.
fn assert_possible(mut blocks: Vec<Block>, copy: &Copy, round: u64) {
    blocks.sort_by_key(|block| block.address);
    for pair in blocks.windows(2) {
        assert!(pair[0].address + pair[0].size <= pair[1].address + 8, "round {round}: {pair:x?}");
    }
    for block in blocks {
        let is_inside = copy.regions().iter().any(|region| region.range.contains(&block.address));
        assert!(is_inside, "round {round}: {block:x?}");
    }
}

/// Takes a census of a copy. Returns the blocks; `None`: it was refused.
fn blocks(copy: &mut Copy, allocator: Allocator) -> Option<Vec<Block>> {
    let mut blocks = Vec::new();
    let regions = copy.regions();
    let result = match allocator {
        Allocator::Glibc => census(copy, &regions, |visit| match visit {
            Visit::Block(block) => blocks.push(block),
            Visit::Again => blocks.clear(),
        }),
        Allocator::Jemalloc => jemalloc(copy, &regions, |block| blocks.push(block)),
    };
    result.ok().map(|_| blocks)
}

/// Damages copies of the heap of a program at rest.
fn damage_heap(how: &How<'_>, allocator: Allocator) {
    let mut program = Program::start(how);
    sleep(Duration::from_millis(50));
    program.rest();
    let whole = Copy::of(program.pid());
    // Words that are not zero. Of data, most damage is refused.
    let places = |is_wanted: fn(Kind) -> bool| {
        let parts = whole.parts.iter().enumerate().filter(move |(_, (region, _))| is_wanted(region.kind));
        let words = parts.flat_map(|(part, (_, words))| {
            words.iter().enumerate().filter(|(_, word)| **word != 0).map(move |(place, _)| (part, place))
        });
        words.collect::<Vec<_>>()
    };
    let (data, heaps) = (places(|kind| kind == Kind::File), places(|kind| kind != Kind::File));
    let rounds = std::env::var("MEMTRACE_DAMAGED_ROUNDS").ok().and_then(|rounds| rounds.parse().ok());
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let mut refused = 0;
    let rounds = rounds.unwrap_or(100);
    for round in 0..rounds {
        let mut copy = whole.clone();
        for _ in 0..1 << (next(&mut seed) % 12) {
            let places = if next(&mut seed).is_multiple_of(256) { &data } else { &heaps };
            damage(&mut copy, &mut seed, places);
        }
        match blocks(&mut copy, allocator) {
            Some(blocks) => assert_possible(blocks, &copy, round),
            None => refused += 1,
        }
    }
    assert!(refused < rounds / 2, "{refused} of {rounds} were refused: nothing was tested");
}

#[test]
fn damaged_heaps() {
    let environment = [("MALLOC_ARENA_MAX", "2"), ("MALLOC_MMAP_THRESHOLD_", "131072")];
    let how = How { threads: 2, slots: 150, environment: &environment, ..How::default() };
    damage_heap(&how, Allocator::Glibc);
}

#[test]
fn damaged_heaps_of_jemalloc() {
    for library in &libraries() {
        let environment = [("MALLOC_CONF", "narenas:2")];
        let how = How {
            threads: 2,
            slots: 150,
            environment: &environment,
            preload: Some(library),
            ..How::default()
        };
        damage_heap(&how, Allocator::Jemalloc);
    }
}
