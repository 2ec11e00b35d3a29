//! Censuses of memories made up for the purpose. Those of real processes are in `sources::process::census`.

mod built;
mod hostile;

use built::{BRK, Built, HEAP, MAIN_ARENA, OTHER};

use super::{
    Refused,
    figures::Amount,
    layout::{HEADER, LAYOUTS, NON_MAIN_ARENA, PREV_INUSE, arena, cache},
};

#[test]
fn blocks_and_free_chunks() {
    let mut built = Built::newest();
    let users = built.main(&[(32, true), (4096, false), (48, true), (0x290, true), (64, false)]);
    let (census, blocks) = built.blocks();
    assert_eq!(blocks, [(users[0], 24), (users[2], 40), (users[3], 0x288)]);
    let main = census.arenas[0];
    assert_eq!(main.in_bins, Amount { blocks: 2, bytes: 4160 });
    assert_eq!(main.in_use, Amount { blocks: 4, bytes: 24 + 40 + 2 * 0x288 });
    assert_eq!(main.top, (1 << 20) - cache::CHUNK - 32 - 4096 - 48 - 0x290 - 64);
    assert_eq!((main.address, main.is_main, main.found, main.system), (MAIN_ARENA, true, 1 << 20, 1 << 20));
    assert_eq!(main.free_bytes(), main.top + 4160);
}

#[test]
fn memory_of_the_allocator() {
    let mut built = Built::newest();
    built.main(&[(1024, true), (3 * 4096, false), (1024, true)]);
    let (second, first) = built.second();
    built.chunks(second, first, HEAP + (1 << 20), &[(64, true)]);
    let (census, _) = built.census().unwrap();
    let main = MAIN_ARENA..MAIN_ARENA + arena::SIZE;
    let mut own = vec![BRK..BRK + (1 << 20), HEAP..HEAP + (1 << 20), main];
    own.sort_by_key(|range| range.start);
    assert_eq!(census.own, own);
    // Every page is there.
    let [main, other] = census.arenas[..] else { panic!("{census:?}") };
    assert_eq!((main.absent, other.absent, other.trimmable), (0, 0, 0));
    // Without the page that its beginning is in; and the top chunk.
    let top = BRK + (1 << 20) - (BRK + (1 << 20) - main.top + 48).next_multiple_of(4096);
    assert_eq!(main.trimmable, 2 * 4096 + top);
}

#[test]
fn what_makes_no_sense_may_be_anything() {
    let mut built = Built::newest();
    let users = built.main(&[(1024, true); 40]);
    built.chunk(users[9] - 16, 24, PREV_INUSE);
    let (census, _) = built.census().unwrap();
    let unknown = users[8] - 16..users[10] - 16;
    assert_eq!(census.missed.skipped, unknown.end - unknown.start);
    assert!(census.own.iter().all(|range| range.end <= unknown.start || range.start >= unknown.end));
    assert!(census.own.iter().any(|range| range.end == unknown.start));
    assert!(census.own.iter().any(|range| range.start == unknown.end));
}

#[test]
fn caches_and_fast_bins_of_every_layout() {
    for layout in &LAYOUTS {
        let mut built = Built::new(layout);
        let users = built.main(&[(48, true); 8]);
        built.cached(&[users[5], users[1], users[3]], 48);
        built.fast(MAIN_ARENA, &[users[0], users[6]], 48);
        // It was in a cache once, and has not been written to since.
        built.stale(users[4]);
        let (census, blocks) = built.blocks();
        assert_eq!(blocks, [2, 4, 7].map(|place| (users[place], 40)), "{}", layout.releases);
        assert_eq!(census.releases, layout.releases);
        assert_eq!(census.caches, 1);
        assert_eq!(census.missed.uncached, 1);
        assert_eq!(census.arenas[0].in_caches, Amount { blocks: 3, bytes: 144 });
        assert_eq!(census.arenas[0].in_fastbins, Amount { blocks: 2, bytes: 96 });
    }
}

#[test]
fn empty_caches_leave_the_release_open() {
    let mut built = Built::newest();
    let users = built.main(&[(48, true), (48, true)]);
    assert_eq!(built.blocks().1, [(users[0], 40), (users[1], 40)]);
    // Links tell.
    for layout in &LAYOUTS {
        let mut built = Built::new(layout);
        let users = built.main(&[(48, true); 4]);
        built.fast(MAIN_ARENA, &[users[2], users[1]], 48);
        let (census, blocks) = built.blocks();
        assert_eq!(blocks, [(users[0], 40), (users[3], 40)]);
        assert_eq!(census.releases == "2.31", !layout.mangled, "{}", layout.releases);
    }
}

#[test]
fn a_cache_far_from_the_beginning() {
    for layout in &LAYOUTS {
        let mut built = Built::new(layout);
        let mut chunks = vec![(48, true); 5001];
        chunks[5000].0 = cache::CHUNK;
        let users = built.main(&chunks);
        built.cached_by(users[5000], &[users[1], users[3]], 48);
        let (census, blocks) = built.blocks();
        assert_eq!(blocks.len(), users.len() - 2, "{}", layout.releases);
        assert!(blocks.iter().all(|block| block.0 != users[1] && block.0 != users[3]));
        assert_eq!(census.arenas[0].in_caches.blocks, 2);
    }
}

#[test]
fn heaps_of_another_arena() {
    for layout in &LAYOUTS {
        let mut built = Built::new(layout);
        let (second, first) = built.second();
        // Free chunks are not marked as another arena's.
        let users = built.chunks(second, first, HEAP + (1 << 20), &[(64, true), (96, false), (64, true)]);
        built.fast(second, &users[2..], 64);
        let (census, blocks) = built.blocks();
        assert_eq!(blocks, [(users[0], 56)], "{}", layout.releases);
        assert_eq!(census.arenas.len(), 2);
        assert_eq!(census.arenas[1].in_bins.bytes, 96);
        assert_eq!((census.arenas[1].address, census.arenas[1].is_main), (second, false));
    }
}

#[test]
fn fenceposts_end_a_heap() {
    for small in [false, true] {
        let mut built = Built::newest();
        let (second, first) = built.second();
        // The top chunk is elsewhere: of another heap it would be at another multiple of 64 MiB.
        let end = HEAP + (1 << 20);
        let users = built.chunks(second, first, end, &[(64, true)]);
        let rest = first + 64;
        if small {
            // A top chunk of 48 bytes became 32 bytes and an end.
            built.chunk(rest, end - 48 - rest, PREV_INUSE | NON_MAIN_ARENA);
            built.chunk(end - 48, 32, PREV_INUSE);
        } else {
            built.chunk(rest, end - 32 - rest, PREV_INUSE);
            built.put(end - 32, &[end - 32 - rest, 16]);
        }
        built.chunk(end - 16, 0, PREV_INUSE);
        built.put(second + arena::TOP, &[HEAP + (2 << 20)]);
        let (census, blocks) = built.blocks();
        let large = [(users[0], 56), (rest + HEADER, end - 48 - rest - 8)];
        assert_eq!(blocks, if small { &large[..] } else { &large[..1] });
        assert_eq!(census.arenas[1].top, 0);
    }
}

#[test]
fn mappings() {
    let mut built = Built::newest();
    built.mapping(OTHER + 0x1000, 0, 0x2000);
    built.mapping(OTHER + 0x4000, 0x1ff0, 0x10);
    built.mapping(OTHER + 0x8000, 0x1ff0, 0x4010);
    built.mapping(OTHER + 0x10000, 48, 0x1000 - 48);
    built.mapped(4, 0x2000 + 0x2000 + 0x6000 + 0x1000);
    let (census, blocks) = built.census().unwrap();
    let found: Vec<_> = blocks[1..].iter().map(|block| (block.address - OTHER, block.size)).collect();
    // The second one is none: nothing is behind its header.
    assert_eq!(found, [(0x1010, 0x1ff0), (0x4010, 0x1ff0), (0xa000, 0x4000), (0x10040, 0x1000 - 64)]);
    assert_eq!(census.mapped, Amount { blocks: 4, bytes: 0xb000 });
    assert!(census.missed.is_nothing());
}

#[test]
fn a_page_that_is_written_later() {
    let mut built = Built::newest();
    let users = built.main(&[(4096, true); 8]);
    built.late = BRK + 0x3000..BRK + 0x5000;
    let (census, blocks) = built.blocks();
    assert_eq!(blocks.len(), users.len());
    assert_eq!(census.missed.read_again, 2);
}

#[test]
fn memory_of_another_user_of_brk() {
    let mut built = Built::newest();
    let mut chunks = [(1024, true); 40];
    chunks[20] = (32, true);
    let users = built.main(&chunks);
    // Where a chunk was: fenceposts, and no chunk.
    let gap = users[19] - HEADER;
    built.put(gap, &[0, 16 | PREV_INUSE, 0, 16 | PREV_INUSE, 0x4141, 0x4141, 0, 3]);
    let (census, blocks) = built.census().unwrap();
    assert_eq!(blocks.len(), 1 + 39);
    assert_eq!((census.missed.resumed, census.missed.skipped), (1, 1024 - 32));
    assert_eq!(census.missed.unexplained, 1024 - 32);
}

#[test]
fn other_layouts_are_refused() {
    // No data with an arena.
    let mut built = Built::newest();
    built.put(MAIN_ARENA + arena::BINS + 320, &[0, 0]);
    assert_eq!(built.census().unwrap_err(), Refused::NoHeap);
    // A larger cache comes first, as in 2.42.
    let mut built = Built::newest();
    built.chunk(BRK, 0x300, PREV_INUSE);
    let users = built.chunks(MAIN_ARENA, BRK + 0x300, BRK + (1 << 20), &[(cache::CHUNK, true), (48, true)]);
    built.put(users[1] + 8, &[0x77]);
    assert!(matches!(built.census(), Err(Refused::Unknown(_))));
    // Links of another kind.
    let mut built = Built::newest();
    let users = built.main(&[(48, true); 4]);
    built.cached(&users[..2], 48);
    built.put(users[0], &[users[1] ^ 0xff]);
    assert!(matches!(built.census(), Err(Refused::Unknown(_))));
    // The second arena is at another place in its heap.
    let mut built = Built::newest();
    let (second, _) = built.second();
    built.arena(second + 16, MAIN_ARENA, 1 << 20);
    built.put(HEAP, &[second + 16]);
    built.put(MAIN_ARENA + arena::NEXT, &[second + 16]);
    assert!(matches!(built.census(), Err(Refused::Unknown(_))));
}
