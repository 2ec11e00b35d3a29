//! Lists that grow while they are scanned.

use super::{Words, blocks};
use crate::heap::{Between, Holders, How, Marked, Via, Young, holders::Path, scan};

const DATA: u64 = 0x55_0000_0000;
const HEAP: u64 = 0x55_5555_0000;
const HOW: How = How { unaligned: false, holders: Holders::Paths, others: false, young: true };

fn block(number: u64) -> u64 {
    HEAP + 0x40 * number
}

/// Data, and an allocator's memory.
fn memory() -> Words {
    let mut memory = Words::new(&[DATA..DATA + 0x1000, HEAP..HEAP + 0x10_0000]);
    memory.between.push((HEAP..HEAP + 0x10_0000, Between::Free));
    memory
}

/// Blocks up to `old` were there when the scan began, those up to `all` are once memory has been read.
fn scanned(memory: &Words, old: u64, all: u64, extra: &[u64]) -> Marked {
    let known: Vec<(u64, u64)> = (0..old).map(|number| (block(number), 48)).collect();
    let mut memory = memory.clone();
    let mut pending = scan(&mut memory, blocks(&known), extra, HOW).unwrap();
    assert!(pending.wants_young());
    let mut young = Young::new(&pending);
    young.add(HEAP, 8);
    young.clear();
    (0..all).for_each(|number| young.add(block(number), 48));
    let young = young.finish().unwrap();
    assert_eq!(young.len() as u64, all - old);
    pending.through(young, &mut memory);
    pending.decide(|_, _| false)
}

#[test]
fn a_list_that_grows_at_its_head_has_a_holder() {
    let mut memory = memory();
    // 9 -> 8 -> ... -> 0, and 6 is the first that the scan does not know.
    memory.put(DATA + 8, block(9));
    (1..10).for_each(|number| memory.put(block(number), block(number - 1)));
    let marked = scanned(&memory, 6, 10, &[]);
    assert_eq!(super::lost(&marked), 0);
    let root = Via::Memory(DATA + 8);
    assert_eq!([5, 0].map(|number| marked.path(number).unwrap()), [1, 6].map(|steps| Path { root, steps }));
}

#[test]
fn so_has_one_whose_head_is_in_a_block_or_a_register() {
    let mut memory = memory();
    memory.put(DATA + 8, block(0));
    memory.put(block(0) + 16, block(7));
    memory.put(block(7), block(1));
    // One block to the next, and then from a young one, and a pointer to the middle.
    memory.put(block(1), block(8));
    memory.put(block(8) + 40, block(2) + 16);
    memory.put(block(9), block(3));
    let marked = scanned(&memory, 5, 10, &[7, block(9)]);
    let steps = [1, 2].map(|number| marked.path(number).map(|path| (path.root, path.steps)));
    let root = Via::Memory(DATA + 8);
    assert_eq!(steps, [Some((root, 2)), Some((root, 3))]);
    assert_eq!(marked.path(3), Some(Path { root: Via::Word(1), steps: 1 }));
    assert_eq!(marked.lost().collect::<Vec<_>>(), [(block(4), 4)]);
}

#[test]
fn what_only_free_memory_leads_to_is_lost() {
    let mut memory = memory();
    memory.put(DATA + 8, block(6));
    // A block that has been freed, and a young one that nothing points to.
    memory.put(block(6), block(0));
    memory.put(block(7), block(1));
    let mut pending = scan(&mut memory.clone(), blocks(&[(block(0), 48), (block(1), 48)]), &[], HOW).unwrap();
    let mut young = Young::new(&pending);
    young.add(block(7), 48);
    let young = young.finish().unwrap();
    pending.through(young, &mut memory);
    assert_eq!(super::lost(&pending.decide(|_, _| false)), 2);
}

#[test]
fn nothing_is_asked_for_if_all_was_reached() {
    let mut memory = memory();
    memory.put(DATA, block(9));
    memory.put(DATA + 8, block(0));
    let pending = scan(&mut memory, blocks(&[(block(0), 48)]), &[], HOW);
    assert!(!pending.unwrap().wants_young());
}

#[test]
fn many_young_blocks_far_apart_and_large_ones_are_read() {
    let mut memory = Words::new(&[DATA..DATA + 0x1000, HEAP..HEAP + 0x1000_0000]);
    memory.between.push((HEAP..HEAP + 0x1000_0000, Between::Free));
    let known = (HEAP, 48);
    let mut young_blocks: Vec<(u64, u64)> =
        (0..2000).map(|number| (HEAP + 0x1_0000 + number * 0x5_0010, 40)).collect();
    // Larger than what is read at a time, right behind another, and with its pointer at the end.
    young_blocks.push((HEAP + 0xc00_0000, 24));
    young_blocks.push((HEAP + 0xc00_0020, 1 << 20));
    memory.put(DATA, young_blocks[0].0);
    for pair in young_blocks.windows(2) {
        memory.put(pair[0].0 + 16, pair[1].0);
    }
    memory.put(HEAP + 0xc00_0020 + (1 << 20) - 8, HEAP);
    let mut pending = scan(&mut memory.clone(), blocks(&[known]), &[], HOW).unwrap();
    assert!(pending.wants_young());
    let mut young = Young::new(&pending);
    young_blocks.iter().for_each(|&(start, size)| young.add(start, size));
    let young = young.finish().unwrap();
    pending.through(young, &mut memory);
    let marked = pending.decide(|_, _| false);
    assert_eq!(marked.path(0), Some(Path { root: Via::Memory(DATA), steps: 1 }));
}
