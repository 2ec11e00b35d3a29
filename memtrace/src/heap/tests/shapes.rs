//! Shapes that programs make, and what becomes of them.

use super::{Words, marked, try_marked, try_scan};
use crate::heap::{Between, Held, Holders, How, State, Via, holders::Path, scan};

const DATA: u64 = 0x55_0000_0000;
const HEAP: u64 = 0x55_5555_0000;

fn memory() -> Words {
    Words::new(&[DATA..DATA + 0x1000, HEAP..HEAP + 0x10_0000])
}

#[test]
fn chains_cycles_and_trees() {
    let block = |number: u64| HEAP + 0x40 * number;
    let mut memory = memory();
    let all: Vec<(u64, u64)> = (0..12).map(|number| (block(number), 48)).collect();
    // Reachable: 0 -> 1, and 2 from the middle of 1 only.
    memory.put(DATA + 8, block(0));
    memory.put(block(0) + 16, block(1));
    memory.put(block(1) + 40, block(2) + 16);
    // Through 2, which is possibly reachable, so is 3.
    memory.put(block(2), block(3));
    // A lost chain: 4 -> 5 -> 6.
    memory.put(block(4), block(5));
    memory.put(block(5), block(6));
    // A lost cycle: 7 -> 8 -> 7, and 9 -> 8: of the cycle the first is lost directly all the same.
    memory.put(block(7), block(8));
    memory.put(block(8), block(7));
    memory.put(block(9), block(8));
    // A block that points to itself only.
    memory.put(block(10), block(10));
    // A tagged pointer, with a tag above it too.
    memory.put(DATA + 16, 0xabcd_0000_0000_0000 | block(11) | 5);
    let marked = marked(&memory, &all, &[]);
    use State::{IndirectlyLost, Lost, Possibly, Reachable};
    let states: Vec<State> = (0..12).map(|number| marked.state(number)).collect();
    assert_eq!(
        states,
        [
            Reachable,
            Reachable,
            Possibly,
            Possibly,
            Lost,
            IndirectlyLost,
            IndirectlyLost,
            Lost,
            IndirectlyLost,
            Lost,
            Lost,
            Reachable
        ]
    );
    assert_eq!(super::lost(&marked), 7);
    assert_eq!([4, 7, 9].map(|block| marked.lost_through(block)), [96, 48, 0]);
    assert_eq!(marked.path(3), Some(Path { root: Via::Memory(DATA + 8), steps: 4 }));
    assert_eq!(marked.path(4), None);
}

#[test]
fn a_cycle_counts_as_its_first_block_and_the_rest() {
    let mut memory = memory();
    let all = [(HEAP, 32), (HEAP + 64, 32), (HEAP + 128, 32)];
    for place in 0..3u64 {
        memory.put(HEAP + 64 * place, HEAP + 64 * ((place + 1) % 3));
    }
    let marked = marked(&memory, &all, &[]);
    let states = [0, 1, 2].map(|block| marked.state(block));
    assert_eq!(states, [State::Lost, State::IndirectlyLost, State::IndirectlyLost]);
}

#[test]
fn registers_are_roots_and_the_end_of_a_block_is_not_in_it() {
    let mut memory = memory();
    let all = [(HEAP, 32), (HEAP + 64, 32), (HEAP + 128, 0)];
    // One past the end.
    memory.put(DATA, HEAP + 32);
    let marked = marked(&memory, &all, &[7, HEAP + 64, HEAP + 128]);
    assert_eq!([0, 1, 2].map(|block| marked.state(block)), [State::Lost, State::Reachable, State::Reachable]);
    assert_eq!(marked.path(1), Some(Path { root: Via::Word(1), steps: 1 }));
}

#[test]
fn a_pointer_to_any_byte_counts() {
    let mut memory = memory();
    memory.put(DATA, HEAP + 12);
    memory.put(DATA + 8, HEAP + 64 + 16);
    memory.put(DATA + 16, HEAP + 128 + 31);
    let marked = marked(&memory, &[(HEAP, 32), (HEAP + 64, 32), (HEAP + 128, 31)], &[]);
    assert_eq!([0, 1, 2].map(|block| marked.state(block)), [State::Possibly, State::Possibly, State::Lost]);
}

#[test]
fn a_scan_of_some_blocks_takes_the_others_for_roots() {
    let block = |number: u64| HEAP + 0x40 * number;
    let all: Vec<(u64, u64)> =
        (0..4).map(|number| (block(number), if number < 3 { 48 } else { 200_000 })).collect();
    let mut memory = memory();
    // A list, 0 -> 1 -> 2, and 3; nothing leads to either.
    memory.put(block(0), block(1));
    memory.put(block(1), block(2));
    let mut first = marked(&memory, &all, &[]);
    assert_eq!(super::lost(&first), 4);
    assert_eq!(first.lost_pointers(), [(block(0), block(1)), (block(1), block(2))]);
    first.forget_pointers();
    let some = first.only(&[block(2), block(3)]).unwrap();
    assert_eq!([0, 1].map(|number| some.size(number)), [48, 200_000]);
    let second = try_scan(&memory, some, &[], How::default()).unwrap();
    assert_eq!([0, 1].map(|block| second.state(block)), [State::Reachable, State::Lost]);
    assert_eq!(second.lost().collect::<Vec<_>>(), [(block(3), 1)]);
    assert!(first.only(&[block(4)]).is_none());
}

#[test]
fn packed_pointers_are_found_if_asked_for() {
    let mut memory = memory();
    let word = HEAP + 0x1230;
    memory.put(DATA, word << 48);
    memory.put(DATA + 8, word >> 16);
    let all = [(word, 32)];
    for (unaligned, state) in [(false, State::Lost), (true, State::Reachable)] {
        let marked = try_marked(&memory, &all, &[], How { unaligned, ..How::default() }).unwrap();
        assert_eq!(marked.state(0), state);
    }
}

#[test]
fn packed_pointers_are_those_of_the_block_that_has_them() {
    let mut memory = memory();
    let all = [(HEAP, 16), (HEAP + 32, 16), (HEAP + 64, 16), (HEAP + 96, 16)];
    // The first, which is lost, to the second, packed; the third, which is not, to the fourth.
    memory.put(HEAP, (HEAP + 32) << 8);
    memory.put(HEAP + 8, (HEAP + 32) >> 56);
    memory.put(HEAP + 64, HEAP + 96);
    memory.put(DATA, HEAP + 64);
    let marked = try_marked(&memory, &all, &[], How { unaligned: true, ..How::default() }).unwrap();
    let states = [0, 1, 2, 3].map(|block| marked.state(block));
    assert_eq!(states, [State::Lost, State::IndirectlyLost, State::Reachable, State::Reachable]);
}

#[test]
fn free_memory_of_an_allocator_holds_nothing() {
    let mut memory = memory();
    // Its chunk can hold 56 bytes.
    let all = [(HEAP, 42), (HEAP + 0x80, 16), (HEAP + 0x100, 16), (HEAP + 0x180, 16)];
    memory.put(DATA, HEAP);
    memory.put(HEAP + 48, HEAP + 0x80);
    memory.put(HEAP + 56, HEAP + 0x100);
    memory.put(HEAP + 0x1000, HEAP + 0x180);
    let states = |memory: &Words| [1, 2, 3].map(|block| marked(memory, &all, &[]).state(block));
    assert_eq!(states(&memory), [State::Reachable; 3]);
    memory.between.push((HEAP..HEAP + 0x10_0000, Between::Rounded));
    assert_eq!(states(&memory), [State::Reachable, State::Lost, State::Lost]);
}

#[test]
fn each_word_belongs_to_its_own_block_where_blocks_have_no_headers() {
    let mut memory = memory();
    memory.between.push((HEAP..HEAP + 0x10_0000, Between::Free));
    // The first is lost. The second begins with the only pointer to the third.
    let all = [(HEAP, 128), (HEAP + 128, 128), (HEAP + 256, 128), (HEAP + 384, 8), (HEAP + 392, 8)];
    memory.put(DATA, HEAP + 128);
    memory.put(HEAP, HEAP + 8);
    memory.put(HEAP + 128, HEAP + 256);
    memory.put(HEAP + 256, HEAP + 392);
    memory.put(HEAP + 392, HEAP + 384);
    let marked = marked(&memory, &all, &[]);
    let reachable = State::Reachable;
    let states = [0, 1, 2, 3, 4].map(|block| marked.state(block));
    assert_eq!(states, [State::Lost, reachable, reachable, reachable, reachable]);
}

#[test]
fn glibc_points_to_chunks_within_the_block_before() {
    let mut memory = memory();
    memory.between.push((DATA..DATA + 0x1000, Between::Chunks));
    // The chunks after the first and last begin behind their blocks, the ones after the others within.
    let all = [(HEAP, 16), (HEAP + 0x80, 40), (HEAP + 0x100, 33), (HEAP + 0x180, 32), (HEAP + 0x200, 40)];
    for (place, pointer) in
        [HEAP + 16, HEAP + 0x80 + 32, HEAP + 0x100 + 32, HEAP + 0x180 + 32, HEAP + 0x200 + 16]
            .into_iter()
            .enumerate()
    {
        memory.put(DATA + 8 * place as u64, pointer);
    }
    let states = |memory: &Words| [0, 1, 2, 3, 4].map(|block| marked(memory, &all, &[]).state(block));
    let lost = State::Lost;
    assert_eq!(states(&memory), [lost, lost, lost, lost, State::Possibly]);
    memory.between.clear();
    assert_eq!(states(&memory), [lost, State::Possibly, State::Possibly, lost, State::Possibly]);
}

#[test]
fn large_blocks_are_found_by_their_middle() {
    let far = HEAP + (1 << 32);
    let mut memory = Words::new(&[DATA..DATA + 0x1000, HEAP..HEAP + 0x10_0000, far..far + 0x1000]);
    // 5 GiB, 200 KiB, one that reaches into the next 64 KiB, and one behind it.
    let all =
        [(HEAP + 0xff00, 0x200), (HEAP + 0x2_0010, 200 << 10), (HEAP + 0x8_0000, 16), (far + 0x10, 5 << 30)];
    for (place, pointer) in [HEAP + 0x1_0080, HEAP + 0x2_0010 + (150 << 10), HEAP + 0x8_0010, far + (5 << 30)]
        .into_iter()
        .enumerate()
    {
        memory.put(DATA + 8 * place as u64, pointer);
    }
    let marked = marked(&memory, &all, &[]);
    let states = [0, 1, 2, 3].map(|block| marked.state(block));
    assert_eq!(states, [State::Possibly, State::Possibly, State::Lost, State::Possibly]);
    assert_eq!(marked.blocks().size(3), 5 << 30);
    assert_eq!([far + 0x10, far + 0x18].map(|start| marked.blocks().beginning_at(start)), [Some(3), None]);
    // So far from its ends that nothing else can be near.
    memory.put(DATA + 24, far + (2 << 30));
    assert_eq!(super::marked(&memory, &all, &[]).state(3), State::Possibly);
    memory.put(DATA + 24, 0);
    assert_eq!(super::marked(&memory, &all, &[]).state(3), State::Lost);
    // A pointer within a large block is the block's own.
    memory.put(HEAP + 0x4_0000, HEAP + 0x8_0000);
    let marked = super::marked(&memory, &all, &[]);
    assert_eq!(marked.path(2).map(|path| path.steps), Some(2));
}

#[test]
fn blocks_that_are_too_scattered_are_refused() {
    let scattered = |count: u64| {
        let mut collected = super::Collected::new();
        (0..count).for_each(|number| collected.add(number << 32, 16));
        collected.finish().map(|blocks| blocks.len())
    };
    assert_eq!([scattered(0), scattered(100), scattered(1000)], [Some(0), Some(100), None]);
}

#[test]
fn each_block_counts_for_the_root_that_reached_it_first() {
    let mut memory = Words::new(&[0x1000..0x1020, 0x10_0000..0x20_0000]);
    let all: Vec<(u64, u64)> = (0..1000).map(|place| (0x10_0000 + place * 64, 48)).collect();
    // A list of 600 from one root, one of 399 from a word that is in no memory, and a lost block.
    memory.put(0x1008, all[0].0);
    for place in (0..998).filter(|place| *place != 599) {
        memory.put(all[place].0 + 8, all[place + 1].0);
    }
    let how = How { holders: Holders::Roots, ..How::default() };
    let marked = try_marked(&memory, &all, &[7, all[600].0], how).unwrap();
    let of = |blocks| Held { blocks, bytes: blocks * 48 };
    let held: Vec<(Via, Held)> = marked.held().collect();
    assert_eq!(held, [(Via::Memory(0x1008), of(600)), (Via::Word(1), of(399))]);
    assert_eq!(marked.path(3), None);
}

#[test]
fn words_of_free_memory_count_if_they_are_in_other_blocks() {
    let mut memory = memory();
    memory.between.push((HEAP..HEAP + 0x10_0000, Between::Free));
    let all = [(HEAP, 40), (HEAP + 0x80, 40), (HEAP + 0x100, 40), (HEAP + 0x180, 40)];
    // From memory that is in none of them, from the second, and from both.
    memory.put(HEAP + 0x1000, HEAP);
    memory.put(HEAP + 0x2000, HEAP + 0x80);
    memory.put(HEAP + 0x80 + 32, HEAP + 0x100);
    memory.put(HEAP + 0x3000, HEAP + 0x180);
    memory.put(DATA, HEAP + 0x180);
    let how = How { others: true, ..How::default() };
    let states = |roots: &[u64]| {
        let pending = scan(&mut memory.clone(), super::blocks(&all), &[], how).unwrap();
        let open: Vec<u64> = pending.open().collect();
        // Those that lead to what is reachable anyway are not asked for.
        assert_eq!(open, [HEAP + 0x1000, HEAP + 0x2000]);
        let marked = pending.decide(|place, at| {
            assert_eq!(at, open[place]);
            roots.contains(&at)
        });
        [0, 1, 2, 3].map(|block| marked.state(block))
    };
    use State::{IndirectlyLost, Lost, Reachable};
    assert_eq!(states(&[]), [Lost, Lost, IndirectlyLost, Reachable]);
    assert_eq!(states(&[HEAP + 0x1000]), [Reachable, Lost, IndirectlyLost, Reachable]);
    assert_eq!(states(&[HEAP + 0x2000]), [Lost, Reachable, Reachable, Reachable]);
}

#[test]
fn sizes_are_those_of_their_blocks_in_any_order() {
    let all = [(0x9000, 24), (0x1010, 40), (0x2010, 24), (0x7f00_0000_0010, 1 << 36), (0x7f10_0000_0010, 16)];
    let late = [(0x1_0010, 200_000), (0x1800, 0), (0x3010, 13)];
    // Seen again: the first size counts.
    let again = [(0x2010, 400_000), (0x1010, 50), (0x1_0010, 300_000), (0x7f00_0000_0010, 8)];
    let blocks = super::blocks(&[&all[..], &late, &again].concat());
    assert_eq!(blocks.len(), 8);
    for (address, size) in all.into_iter().chain(late) {
        let number = blocks.beginning_at(address).unwrap();
        // An empty block has one byte, so that it can be pointed to.
        assert_eq!(blocks.size(number), size.max(1), "{address:#x}");
    }
}
