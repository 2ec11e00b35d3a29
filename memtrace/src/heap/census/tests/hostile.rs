//! Heaps that are made to mislead.

use super::{
    super::layout::{HEADER, PREV_INUSE, arena, cache},
    built::{BRK, Built, HEAP, MAIN_ARENA},
};

/// Words that a census of so small a heap may read.
const MOST: usize = 1 << 24;

#[test]
fn rings_end() {
    // A fast bin that leads back to itself.
    let mut built = Built::newest();
    let users = built.main(&[(48, true); 4]);
    built.fast(MAIN_ARENA, &[users[0], users[1]], 48);
    built.link(users[1], users[0] - HEADER);
    let (census, _) = built.census().unwrap();
    assert_eq!(census.missed.lists, 1);
    assert!(built.words_read < MOST);
    // A cache that does.
    let mut built = Built::newest();
    let users = built.main(&[(48, true); 6]);
    built.cached(&[users[0], users[1], users[2]], 48);
    built.link(users[2], users[0]);
    let (census, blocks) = built.census().unwrap();
    assert!(census.missed.lists > 0);
    assert_eq!(blocks.len(), 1 + 3);
    assert!(built.words_read < MOST);
    // A heap that is its own predecessor.
    let mut built = Built::newest();
    let (second, first) = built.second();
    built.chunks(second, first, HEAP + (1 << 20), &[(64, true)]);
    built.put(HEAP + 8, &[HEAP]);
    let (census, _) = built.census().unwrap();
    assert_eq!(census.missed.arenas, 1);
    // Arenas that do not come back to the first one.
    let mut built = Built::newest();
    let (second, _) = built.second();
    built.put(second + arena::NEXT, &[second]);
    assert!(built.census().is_err());
    assert!(built.words_read < 1 << 26);
}

#[test]
fn absurd_sizes_are_skipped() {
    for size in [0, 8, 1 << 63, u64::MAX - 7, 1 << 21, 24] {
        let mut built = Built::newest();
        let users = built.main(&[(1024, true); 40]);
        built.chunk(users[9] - 16, size, PREV_INUSE);
        let (census, blocks) = built.census().unwrap();
        assert_eq!(blocks.len(), 1 + 39 - 1, "{size:x}");
        assert_eq!(census.missed.resumed, 1, "{size:x}");
        // The block before it too: whether it is in use is not known.
        assert_eq!(census.missed.skipped, 2048, "{size:x}");
    }
}

#[test]
fn no_chunk_makes_sense() {
    let mut built = Built::newest();
    let end = BRK + (1 << 20);
    for at in (BRK + cache::CHUNK..end).step_by(16) {
        built.chunk(at, if at % 256 == 0 { 24 } else { 32 }, PREV_INUSE);
    }
    built.put(MAIN_ARENA + arena::TOP, &[end]);
    let result = built.census();
    assert!(built.words_read < MOST, "{}", built.words_read);
    assert!(result.is_ok_and(|(census, _)| !census.missed.is_nothing()));
}

#[test]
fn top_chunks_anywhere() {
    for top in [0x1000, BRK + 8, BRK + 0x3000, BRK + (1 << 20), HEAP + 64, MAIN_ARENA & !15, (1 << 47) - 16] {
        let mut built = Built::newest();
        let users = built.main(&[(1024, true); 40]);
        built.put(MAIN_ARENA + arena::TOP, &[top]);
        if let Ok((census, blocks)) = built.census() {
            let own = &census.own;
            assert!(
                own.iter().all(|range| range.start < range.end) && own.is_sorted_by(|a, b| a.end <= b.start)
            );
            assert!(blocks.iter().all(|block| block.address <= users[39]), "{top:x}");
        }
        assert!(built.words_read < MOST);
    }
}
