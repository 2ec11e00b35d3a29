//! Random memories, compared with the obvious algorithm.

use std::collections::BTreeMap;

use super::{Words, marked, try_marked, try_scan};
use crate::heap::{Holders, How, State, scan::bytes_beside};

/// A small generator of random numbers (Marsaglia's xorshift64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

const BASES: [u64; 3] = [0x5555_5000_0000, 0x7f00_0001_0000, 0x7f80_ffff_0000];
const DATA: u64 = 0x4000_0000;

/// Blocks at multiples of `alignment`, and memory with pointers between them.
fn made_up(random: &mut Random, alignment: u64) -> (Vec<(u64, u64)>, Words, Vec<u64>) {
    let mut all = Vec::new();
    let mut ranges = Vec::new();
    ranges.push(DATA..DATA + 0x800);
    for base in BASES {
        let mut at = base;
        for _ in 0..random.below(60) {
            at += alignment * random.below(6);
            let size = match random.below(12) {
                0 => 0,
                1 => 60_000 + random.below(150_000),
                _ => 1 + random.below(200),
            };
            all.push((at, size));
            at = (at + size.max(1)).next_multiple_of(alignment);
            if random.below(10) == 0 {
                at += 0x1_0000 * random.below(4);
            }
        }
        ranges.push(base..at.next_multiple_of(0x1000));
    }
    let mut memory = Words::new(&ranges);
    let pointer = |random: &mut Random| -> u64 {
        let Some(&(address, size)) = all.get(random.below(all.len().max(1) as u64) as usize) else {
            return 7;
        };
        match random.below(8) {
            0 => address + random.below(size + 16),
            1 => address + (random.below(size + 16) & !7),
            2 => address | random.below(8) | random.below(4) << 48,
            3 => random.next(),
            _ => address,
        }
    };
    for _ in 0..random.below(8) {
        let word = pointer(random);
        memory.put(DATA + 8 * random.below(0x100), word);
    }
    for &(address, size) in &all {
        for _ in 0..random.below(4) {
            let at = (address + random.below(size.max(1))) & !7;
            let word = pointer(random);
            memory.put(at, word);
        }
    }
    let extra = (0..random.below(3)).map(|_| pointer(random)).collect();
    (all, memory, extra)
}

/// The block that a word points to, and whether to its beginning: by looking at each.
fn target(all: &BTreeMap<u64, u64>, word: u64) -> Option<(u64, bool)> {
    let address = word & 0xffff_ffff_ffff;
    let (&start, &size) = all.range(..=address).next_back()?;
    let is_inside = address - start < size.max(1);
    let is_start = address & !7 == start;
    is_inside.then_some((start, is_start))
}

fn states(all: &[(u64, u64)], memory: &Words, extra: &[u64]) -> BTreeMap<u64, State> {
    let blocks: BTreeMap<u64, u64> = all.iter().copied().collect();
    let inside = |at: u64| {
        let (&start, &size) = blocks.range(..=at).next_back()?;
        (at - start < size.max(1)).then_some(start)
    };
    let mut edges: BTreeMap<u64, Vec<(u64, bool)>> = BTreeMap::new();
    let mut roots: Vec<(u64, bool)> = extra.iter().filter_map(|&word| target(&blocks, word)).collect();
    for (&at, &word) in &memory.words {
        let Some(to) = target(&blocks, word) else { continue };
        match inside(at) {
            Some(from) => edges.entry(from).or_default().push(to),
            None => roots.push(to),
        }
    }
    let of = |block: u64| edges.get(&block).cloned().unwrap_or_default();
    let closure = |from: Vec<u64>, by_start: bool| {
        let mut reached: Vec<u64> = Vec::new();
        let mut stack = from;
        while let Some(block) = stack.pop() {
            if !reached.contains(&block) {
                reached.push(block);
                stack.extend(of(block).into_iter().filter(|to| to.1 || !by_start).map(|to| to.0));
            }
        }
        reached
    };
    let reachable = closure(roots.iter().filter(|root| root.1).map(|root| root.0).collect(), true);
    let possibly = closure(reachable.iter().copied().chain(roots.iter().map(|root| root.0)).collect(), false);
    let mut states = BTreeMap::new();
    for &start in blocks.keys() {
        states.insert(
            start,
            match (reachable.contains(&start), possibly.contains(&start)) {
                (true, _) => State::Reachable,
                (false, true) => State::Possibly,
                (false, false) => State::Lost,
            },
        );
    }
    states
}

/// Where memory is short, pointers that have been followed are forgotten, and if that is not enough, there is no result.
#[test]
fn little_memory_for_pointers_makes_no_result_wrong() {
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    let [mut results, mut refused] = [0; 2];
    for round in 0..40 {
        let (all, memory, extra) = made_up(&mut random, 8);
        let how =
            How { holders: if round % 2 == 0 { Holders::Paths } else { Holders::Unknown }, ..How::default() };
        let expected = states(&all, &memory, &extra);
        for pointers in [0, 1, 5, 10, 20, 50] {
            let known = super::blocks(&all);
            let mut collected = super::Collected::new();
            all.iter().for_each(|&(address, size)| collected.add(address, size));
            let limit = bytes_beside(&known, how) + pointers * size_of::<u32>();
            let known = collected.finish_within(limit).unwrap();
            let Ok(marked) = try_scan(&memory, known, &extra, how) else {
                refused += 1;
                continue;
            };
            results += 1;
            for (number, (start, state)) in (0u32..).zip(&expected) {
                let found = match marked.state(number) {
                    State::IndirectlyLost => State::Lost,
                    state => state,
                };
                assert_eq!(
                    found, *state,
                    "block {number} at {start:#x} in round {round}, {pointers} pointers"
                );
            }
        }
    }
    assert!(results > 50 && refused > 50, "{results} results, {refused} refused");
}

#[test]
fn scans_agree_with_the_obvious_algorithm() {
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut seen = [0u32; 3];
    for round in 0..100 {
        let (all, memory, extra) = made_up(&mut random, if round % 2 == 0 { 8 } else { 16 });
        let expected = states(&all, &memory, &extra);
        let marked = marked(&memory, &all, &extra);
        assert_eq!(
            marked.blocks().starts().collect::<Vec<_>>(),
            expected.keys().copied().collect::<Vec<_>>()
        );
        for (number, (start, state)) in (0u32..).zip(&expected) {
            let found = match marked.state(number) {
                State::IndirectlyLost => State::Lost,
                state => state,
            };
            assert_eq!(found, *state, "block {number} at {start:#x} in round {round}");
            assert_eq!(marked.path(number).is_some(), found != State::Lost, "{number} in round {round}");
            seen[match state {
                State::Reachable => 0,
                State::Possibly => 1,
                _ => 2,
            }] += 1;
        }
        // Directly lost ones lead to all the others, and none of them is pointed to by one that is reached from another.
        assert_eq!(super::lost(&marked), expected.values().filter(|&&state| state == State::Lost).count());
        let lost: Vec<u64> = marked.lost().map(|(start, _)| start).collect();
        // Lost blocks are lost among themselves, whatever else there is.
        let again = try_scan(&memory, marked.only(&lost).unwrap(), &extra, How::default()).unwrap();
        assert_eq!(again.lost().map(|(start, _)| start).collect::<Vec<_>>(), lost, "round {round}");
        assert_eq!(again.lost_pointers(), marked.lost_pointers(), "round {round}");
        let plain = try_marked(&memory, &all, &extra, How::default()).unwrap();
        let states =
            |of: &super::Marked| (0..all.len() as u32).map(|block| of.state(block)).collect::<Vec<_>>();
        assert_eq!(states(&plain), states(&marked));
    }
    assert!(seen.iter().all(|&count| count > 300), "{seen:?}");
}
