//! Heaps of jemalloc that were made up for the purpose. Those of real processes are in `sources::process::census`.

use std::ops::Range;

use super::{
    super::{Amount, Block, Census, Kind, Peek, Refused, Region, memory::PAGE},
    layout::{
        ACTIVE, BASE_UNIT, CLASSES, CacheKind, DIRTY, Field, LAYOUTS, LEAF_SPAN, Layout, MUZZY, NO_ARENA,
        NODE, PAGE_BITS, RETAINED, class_size,
    },
};

/// The data of a library with its bss; memory with blocks; the allocator's own; a thread's stack.
const DATA: u64 = 0x7f00_0000_0000;
const BSS: u64 = DATA + 0x2000;
const ROOT: u64 = BSS + 0x1238;
const HEAP: u64 = 0x7e40_0000_0000;
const BASE: u64 = 0x7e80_0000_0000;
const STACK: u64 = 0x7ec0_0000_0000;
const LEAF: u64 = BASE + NODE;
const ARENA: u64 = BASE + 0x1000;
const EXTENTS: u64 = BASE + 0x10_0000;
/// Bytes of the heap, and words that a census of it may read.
const HEAP_SIZE: u64 = 4 << 20;
const MOST: usize = 1 << 23;

/// The memory of a process with a heap.
struct Built {
    layout: &'static Layout,
    parts: Vec<(Region, Vec<u64>)>,
    /// Extents so far.
    count: u64,
    words_read: usize,
}

fn set(Field(shift, _): Field, value: u64) -> u64 {
    value << shift
}

impl Built {
    fn new(layout: &'static Layout) -> Self {
        let part = |start: u64, length: u64, kind| {
            (Region { range: start..start + length, kind }, vec![0; (length / 8) as usize])
        };
        let parts = vec![
            part(HEAP, HEAP_SIZE, Kind::Anonymous),
            part(BASE, 2 * BASE_UNIT, Kind::Anonymous),
            part(STACK, 1 << 20, Kind::Anonymous),
            part(DATA, BSS - DATA, Kind::File),
            part(BSS, NODE + 0x3000, Kind::Anonymous),
        ];
        let mut built = Self { layout, parts, count: 0, words_read: 0 };
        built.put(
            BASE,
            &[2 * BASE_UNIT, 0, set(layout.arena, NO_ARENA), BASE + 0x20_0000, 2 * BASE_UNIT - 0x20_0000],
        );
        built.put(ROOT + HEAP / LEAF_SPAN * 8, &[LEAF]);
        // Other data.
        built.put(DATA + 0x100, &[1, HEAP, 77]);
        built.put(ROOT - 8, &[5]);
        built
    }

    fn put(&mut self, address: u64, words: &[u64]) {
        let (region, memory) =
            self.parts.iter_mut().find(|(region, _)| region.range.contains(&address)).unwrap();
        let place = ((address - region.range.start) / 8) as usize;
        memory[place..place + words.len()].copy_from_slice(words);
    }

    /// Where the entry of a page is.
    fn entry(page: u64) -> u64 {
        LEAF + ((page % LEAF_SPAN) >> PAGE_BITS) * 8
    }

    /// An extent. Returns where it is described.
    fn extent(&mut self, first: u64, size: u64, (state, class): (u64, u64), slab: Option<&[u64]>) -> u64 {
        let layout = self.layout;
        let at = EXTENTS + self.count * 128;
        self.count += 1;
        let free: u32 = slab.unwrap_or_default().iter().map(|word| word.count_ones()).sum();
        let bits = set(layout.arena, 0)
            | set(layout.slab, u64::from(slab.is_some()))
            | set(layout.state, state)
            | set(layout.class, class)
            | set(layout.free, free.into());
        self.put(at, &[bits, first, size | 3]);
        self.put(at + 64, slab.unwrap_or_default());
        let entry = class << 48
            | at
            | u64::from(slab.is_some())
            | layout.leaf_state.map_or(0, |field| set(field, state));
        let start = first & !(PAGE - 1);
        let pages = (start..start + size).step_by(PAGE as usize);
        let last = start + size - PAGE;
        for page in pages.filter(|&page| slab.is_some() || page == start || page == last) {
            self.put(Self::entry(page), &[entry]);
        }
        at
    }

    /// A slab of so many regions, of which these are free.
    fn slab(&mut self, start: u64, class: u64, pages: u64, free: &[u64]) -> u64 {
        let regions = pages * PAGE / class_size(class);
        let mut words = vec![0u64; regions.div_ceil(64) as usize];
        for region in free {
            words[(region / 64) as usize] |= 1 << (region % 64);
        }
        // What is behind the bitmap is from before.
        words.push(u64::MAX);
        let count = words.len() - 1;
        let at = self.extent(start, pages * PAGE, (ACTIVE, class), Some(&words[..count]));
        if count < 8 {
            self.put(at + 64 + count as u64 * 8, &[u64::MAX]);
        }
        at
    }

    /// A large block.
    fn large(&mut self, first: u64, class: u64) -> u64 {
        self.extent(first, class_size(class) + PAGE, (ACTIVE, class), None)
    }

    /// The cache of a thread, whose element this is, with blocks of a class, on a stack.
    fn cache(&mut self, element: u64, class: u64, stack: u64, blocks: &[u64]) {
        let cache = &self.layout.cache;
        let end = stack + blocks.len() as u64 * 8;
        self.put(stack, blocks);
        self.put(element + cache.link, &[element]);
        self.put(element + cache.arena, &[ARENA]);
        let descriptor = element + cache.descriptor;
        match cache.kind {
            CacheKind::Stacks => {
                let bins = element + 0x408;
                self.put(descriptor + 16, &[bins]);
                self.put(bins - 8, &[element]);
                self.put(bins + class * 24, &[stack, 0, (end & 0xffff) << 32]);
            }
            CacheKind::Counted { small, large } => {
                self.put(descriptor + 16, &[element + small, element + large]);
                self.put(element + small + class * 24, &[(blocks.len() as u64) << 32, 0, end]);
            }
        }
    }

    /// The arena's lists of caches.
    fn list(&mut self, element: u64) {
        self.put(ARENA + 0x2900, &[element, element + self.layout.cache.descriptor]);
    }

    fn census(&mut self) -> Result<(Census, Vec<Block>), Refused> {
        let regions: Vec<Region> = self.parts.iter().map(|(region, _)| region.clone()).collect();
        let mut blocks = Vec::new();
        let census = super::census(self, &regions, |block| blocks.push(block))?;
        Ok((census, blocks))
    }

    /// The same, whole.
    fn blocks(&mut self) -> (Census, Vec<(u64, u64)>) {
        let (census, blocks) = self.census().unwrap();
        assert!(census.missed.is_nothing(), "{:?}", census.missed);
        (census, blocks.into_iter().map(|block| (block.address, block.size)).collect())
    }
}

impl Peek for Built {
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize {
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

    fn read_anew(&mut self, address: u64, words: &mut [u64]) -> usize {
        self.read(address, words)
    }

    fn present(&mut self, range: Range<u64>) -> Option<Range<u64>> {
        let (region, _) = self
            .parts
            .iter()
            .filter(|(region, _)| region.range.end > range.start)
            .min_by_key(|(region, _)| region.range.start)?;
        let run = region.range.start.max(range.start)..region.range.end.min(range.end);
        (!run.is_empty()).then_some(run)
    }
}

/// A slab of 48 bytes, of whose 256 regions all but three are free.
const SLAB_CLASS: u64 = 3;
const USED: [u64; 3] = [0, 7, 255];

fn all_but(used: &[u64]) -> Vec<u64> {
    (0..256).filter(|region| !used.contains(region)).collect()
}

fn with_slab(layout: &'static Layout) -> Built {
    let mut built = Built::new(layout);
    built.slab(HEAP, SLAB_CLASS, 3, &all_but(&USED));
    built
}

#[test]
fn blocks_and_free_memory() {
    for layout in &LAYOUTS {
        let mut built = with_slab(layout);
        // 20 KiB, somewhere in the first page; then memory that is free in different ways.
        built.large(HEAP + 0x4000 + 0x340, 37);
        for (place, state) in [(0x10000, DIRTY), (0x20000, MUZZY), (0x40000, RETAINED)] {
            built.extent(HEAP + place, 0x8000, (state, CLASSES), None);
        }
        let (census, blocks) = built.blocks();
        let mut expected = USED.map(|region| (HEAP + region * 48, 48)).to_vec();
        expected.push((HEAP + 0x4340, 20 << 10));
        assert_eq!(blocks, expected, "{}", layout.releases);
        assert_eq!(census.releases, layout.releases);
        let arena = census.arenas[0];
        assert_eq!(arena.in_use, Amount { blocks: 4, bytes: 3 * 48 + (20 << 10) });
        assert_eq!(arena.in_bins, Amount { blocks: 253, bytes: 253 * 48 });
        assert_eq!((arena.dirty, arena.muzzy, arena.retained), (0x8000, 0x8000, 0x8000));
        assert_eq!((arena.absent, arena.trimmable), (0, 0x10000));
        let own = [
            HEAP..HEAP + 0x3000,
            HEAP + 0x4000..HEAP + 0xa000,
            HEAP + 0x10000..HEAP + 0x18000,
            HEAP + 0x20000..HEAP + 0x28000,
            HEAP + 0x40000..HEAP + 0x48000,
            BASE..BASE + 2 * BASE_UNIT,
        ];
        assert_eq!(census.own, own);
        assert!(built.words_read < MOST, "{}", built.words_read);
    }
}

#[test]
fn blocks_in_caches_are_free() {
    for layout in &LAYOUTS {
        let mut built = with_slab(layout);
        let element = STACK + 0xf_0000;
        // The stack of the cache is a large block of the allocator's own. One entry is no block, another one is free.
        let stack = HEAP + 0x8000;
        built.large(stack, 36);
        let cached = [HEAP + 7 * 48, HEAP + 8 * 48, HEAP + 20];
        built.cache(element, SLAB_CLASS, stack + 64, &cached);
        built.list(element);
        let (census, blocks) = built.census().unwrap();
        let blocks: Vec<u64> = blocks.iter().map(|block| block.address).collect();
        assert_eq!(blocks, [HEAP, HEAP + 255 * 48], "{}", layout.releases);
        assert_eq!(census.arenas[0].in_caches, Amount { blocks: 1, bytes: 48 });
        assert_eq!(census.internal, Amount { blocks: 1, bytes: 16 << 10 });
        assert_eq!((census.caches, census.missed.lists), (1, 0));
        assert!(census.missed.uncached > 0);
        // One that no arena has in its list is left from a thread that has ended.
        built.list(0);
        let (census, blocks) = built.census().unwrap();
        assert_eq!(blocks.len(), 4);
        assert_eq!(census.caches, 0);
    }
}

#[test]
fn rings_end() {
    for layout in &LAYOUTS {
        let mut built = with_slab(layout);
        let (first, second) = (STACK + 0xf_0000, STACK + 0xf_2000);
        built.cache(first, SLAB_CLASS, STACK + 64, &[HEAP]);
        built.cache(second, SLAB_CLASS, STACK + 96, &[HEAP + 7 * 48]);
        built.put(first + layout.cache.link, &[second]);
        built.list(first);
        // The second one leads to itself.
        let (census, blocks) = built.census().unwrap();
        assert_eq!((census.caches, blocks.len()), (0, 3));
        assert!(census.missed.lists > 0);
        built.put(second + layout.cache.link, &[first]);
        let (census, blocks) = built.census().unwrap();
        assert_eq!((census.caches, blocks.len()), (2, 1));
        assert!(built.words_read < 2 * MOST, "{}", built.words_read);
    }
}

#[test]
fn what_contradicts_itself_is_refused() {
    for layout in &LAYOUTS {
        let refused = |change: &dyn Fn(&mut Built, u64)| {
            let mut built = Built::new(layout);
            let at = built.slab(HEAP, SLAB_CLASS, 3, &all_but(&USED));
            change(&mut built, at);
            let result = built.census();
            assert!(built.words_read < MOST);
            result
        };
        let word = |place: u64, change: &dyn Fn(u64) -> u64| {
            refused(&|built, at| {
                let mut words = [0];
                built.read(at + place, &mut words);
                built.put(at + place, &[change(words[0])]);
            })
        };
        let one = |field: Field| move |bits: u64| bits ^ set(field, 1);
        assert!(word(0, &|bits| bits).is_ok(), "{}", layout.releases);
        for (what, result) in [
            ("one more is free", word(0, &one(layout.free))),
            ("another class", word(0, &one(layout.class))),
            ("another state", word(0, &one(layout.state))),
            ("no slab", word(0, &one(layout.slab))),
            ("elsewhere", word(8, &|start| start + PAGE)),
            ("larger", word(16, &|size| size + 64 * PAGE)),
            ("empty", word(16, &|_| 0)),
            ("another bit", word(64, &|bits| bits ^ 2)),
            ("the last one", word(64 + 24, &|bits| bits ^ 1 << 63)),
        ] {
            assert!(result.is_err(), "{}: {what}: {result:?}", layout.releases);
        }
        // The tree says otherwise.
        let entries = |change: &dyn Fn(u64) -> u64| {
            refused(&|built, _| {
                for page in 0..3 {
                    let at = Built::entry(HEAP + page * PAGE);
                    let mut words = [0];
                    built.read(at, &mut words);
                    built.put(at, &[change(words[0])]);
                }
            })
        };
        assert!(entries(&|entry| entry).is_ok());
        assert!(entries(&|entry| entry ^ 1 << 48).is_err());
        assert!(entries(&|entry| entry ^ 1).is_err());
        // Of two regions one that is not there is free, in place of the last one.
        let mut built = with_slab(layout);
        for number in 1..20 {
            built.slab(HEAP + number * 0x4000, SLAB_CLASS, 3, &all_but(&USED));
        }
        let at = built.slab(HEAP + 0x8_0000, 35, 7, &[0]);
        assert_eq!(built.blocks().1.len(), 61);
        built.put(at + 64, &[4]);
        let (census, blocks) = built.census().unwrap();
        assert_eq!((blocks.len(), census.missed.skipped), (60, 7 * PAGE));
        assert!(matches!(
            refused(&|built, _| built.put(ROOT + HEAP / LEAF_SPAN * 8, &[0])),
            Err(Refused::NoHeap)
        ));
    }
}

#[test]
fn other_layouts_are_named() {
    // Where extents begin is said as ever, the rest is not.
    let mut built = Built::new(&LAYOUTS[0]);
    for number in 0..8 {
        let start = HEAP + number * 0x4000;
        let at = built.slab(start, SLAB_CLASS, 3, &all_but(&USED));
        built.put(at, &[0x1234_5678_9abc_def0]);
    }
    assert!(matches!(built.census(), Err(Refused::OtherJemalloc(_))));
}

#[test]
fn a_tree_may_be_large_and_full_of_lies() {
    for layout in &LAYOUTS {
        let mut built = Built::new(layout);
        let at = built.slab(HEAP, SLAB_CLASS, 3, &all_but(&USED));
        // All pages have the entry of the first one.
        let entry = SLAB_CLASS << 48 | at | 1;
        built.put(LEAF, &vec![entry; (NODE / 8) as usize]);
        assert!(built.census().is_err());
        assert!(built.words_read < MOST, "{}", built.words_read);
        // A large block reaches out of memory.
        let mut built = with_slab(layout);
        for number in 1..10 {
            built.slab(HEAP + number * 0x4000, SLAB_CLASS, 3, &all_but(&USED));
        }
        let outside = HEAP + HEAP_SIZE - 0x4000;
        built.large(outside, 60);
        let (census, blocks) = built.census().unwrap();
        assert_eq!(blocks.len(), 30);
        assert!(!census.missed.is_walked());
        assert!(census.own.iter().all(|own| own.end <= outside || own.start >= BASE));
        // A few that make no sense among many: what they describe is taken as anything.
        let mut built = with_slab(layout);
        for number in 1..100 {
            built.slab(HEAP + number * 0x4000, SLAB_CLASS, 3, &all_but(&USED));
        }
        let bad = built.slab(HEAP + 100 * 0x4000, SLAB_CLASS, 3, &all_but(&USED));
        built.put(bad + 64, &[0]);
        let (census, blocks) = built.census().unwrap();
        assert_eq!(blocks.len(), 300);
        assert_eq!(census.missed.skipped, 3 * PAGE);
        assert!(!census.own.iter().any(|own| own.contains(&(HEAP + 100 * 0x4000))));
    }
}
