//! Free blocks in the caches of threads (`tcache_t`): in slabs they are marked as in use. A cache is in the thread's local storage,
//! where it has its own address. Only one that its arena has in its list counts: threads that have ended leave theirs behind.

use std::{collections::BTreeSet, ops::Range};

use super::{
    super::memory::{Kind, PAGE, Peek, Regions},
    extents::Extents,
    layout::{
        BIN_WORDS, CACHED_CLASSES, CLASSES, CacheKind, CacheLayout, MOST_CACHED, MOST_STATISTICS,
        SMALL_CLASSES,
    },
};

/// Where local storage is: at the end of a mapping, or anywhere in one that is not larger than stacks are.
const END: u64 = 64 << 10;
const LARGEST_STACK: u64 = 64 << 20;
/// Bytes that are looked through at most.
const MOST: u64 = 512 << 20;
/// Words read at a time.
const PART: usize = 1 << 15;
/// How far apart the parts of a cache are.
const NEAR: u64 = 4 << 10;
/// Places that are looked at closely.
const MOST_LOOKS: u32 = 1 << 18;
/// Caches of an arena at most.
const MOST_CACHES: usize = 1 << 16;
/// How often a list is read that changes meanwhile.
const ATTEMPTS: usize = 4;

/// Caches and what is in them.
pub(super) struct Caches {
    /// Arenas that may have them.
    arenas: BTreeSet<u64>,
    /// Those that have.
    pub(super) listing: BTreeSet<u64>,
    /// Places that may still be looked at.
    looks: u32,
    /// Blocks: class and address.
    blocks: Vec<(u8, u64)>,
    /// Addresses in the stacks that the blocks are kept on.
    stacks: Vec<u64>,
    /// Lists that did not end.
    pub(super) broken: u64,
}

/// What was taken out of what the program has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cached {
    /// Arena of a free block, and its size.
    pub(super) arena: u16,
    pub(super) bytes: u64,
    /// Whether it is the allocator's own.
    pub(super) is_own: bool,
}

impl Caches {
    /// Finds caches in memory that is not the allocator's.
    pub(super) fn find<M: Peek>(
        memory: &mut M,
        regions: &Regions,
        layout: &CacheLayout,
        own: &[Range<u64>],
    ) -> Self {
        let mut caches = Self {
            arenas: BTreeSet::new(),
            listing: BTreeSet::new(),
            looks: MOST_LOOKS,
            blocks: Vec::new(),
            stacks: Vec::new(),
            broken: 0,
        };
        let mut left = MOST;
        let mut words = vec![0; PART];
        // Ends first: there they are, mostly.
        for whole in [false, true] {
            for region in regions.all() {
                let Range { start, end } = region.range.clone();
                let from = end.saturating_sub(END).max(start);
                let range = match (whole, end - start <= LARGEST_STACK) {
                    (false, _) if region.kind == Kind::Heap => start..(start + END).min(end),
                    (false, _) => from..end,
                    (true, true) => start..from,
                    (true, false) => continue,
                };
                caches.search(memory, layout, range, own, &mut left, &mut words);
            }
        }
        caches
    }

    fn search<M: Peek>(
        &mut self,
        memory: &mut M,
        layout: &CacheLayout,
        range: Range<u64>,
        own: &[Range<u64>],
        left: &mut u64,
        words: &mut [u64],
    ) {
        let mut from = range.start;
        while let Some(run) = memory.present(from..range.end) {
            let mut at = run.start.max(from);
            from = run.end.max(from + PAGE);
            while at < run.end && *left > 0 {
                if let Some(own) =
                    own.get(own.partition_point(|own| own.end <= at)).filter(|own| own.contains(&at))
                {
                    at = own.end.next_multiple_of(8);
                    continue;
                }
                let count = ((run.end - at) / 8).min(words.len() as u64) as usize;
                let part = words.get_mut(..count).unwrap_or_default();
                let read = memory.read(at, part).min(count);
                *left = left.saturating_sub(count as u64 * 8);
                for (place, &word) in (0u64..).zip(part.iter().take(read)) {
                    let here = at + place * 8;
                    // Where bins are, which is in the descriptor behind its link.
                    let element = here.wrapping_sub(layout.descriptor + 16);
                    let is_near = match layout.kind {
                        CacheKind::Stacks => {
                            word > here && word - here < NEAR && {
                                let back = (word - 8).wrapping_sub(at) / 8;
                                part.get(back as usize).is_none_or(|&back| back == element)
                            }
                        }
                        CacheKind::Counted { small, .. } => word == element.wrapping_add(small),
                    };
                    if !is_near || self.looks == 0 {
                        continue;
                    }
                    self.looks -= 1;
                    if let Some(cache) = Cache::read(memory, layout, element) {
                        self.arenas.insert(cache.arena);
                    }
                }
                at += count.max(1) as u64 * 8;
            }
        }
    }

    /// Reads what is in the caches that arenas have.
    pub(super) fn fill<M: Peek>(&mut self, memory: &mut M, layout: &CacheLayout) -> usize {
        let mut number = 0;
        let mut words = vec![0; MOST_STATISTICS];
        for &arena in &self.arenas {
            let mut listed = Listed::Not;
            for _ in 0..ATTEMPTS {
                listed = self::listed(memory, layout, arena, &mut words);
                if !matches!(listed, Listed::Broken) {
                    break;
                }
            }
            let listed = match listed {
                Listed::Caches(listed) => listed,
                Listed::Broken => {
                    self.broken += 1;
                    continue;
                }
                Listed::Not => continue,
            };
            self.listing.insert(arena);
            for cache in listed {
                number += 1;
                cache.each(memory, layout, &mut self.blocks, &mut self.stacks);
            }
        }
        number
    }

    /// Takes the blocks in caches, and the stacks themselves, out of what the program has. Returns how many are no blocks.
    pub(super) fn take_out(&mut self, extents: &mut Extents, mut taken: impl FnMut(Cached)) -> u64 {
        let mut wrong = 0;
        for (class, address) in std::mem::take(&mut self.blocks) {
            let arena =
                extents.place(address).and_then(|place| extents.all.get(place)).map(|extent| extent.arena);
            match (extents.take(address, Some(u64::from(class))), arena) {
                (Some(bytes), Some(arena)) if bytes > 0 => taken(Cached { arena, bytes, is_own: false }),
                (Some(_), _) => {}
                (None, _) => wrong += 1,
            }
        }
        for address in std::mem::take(&mut self.stacks) {
            let bytes = extents.take(address, None).unwrap_or(0);
            if bytes > 0 {
                taken(Cached { arena: 0, bytes, is_own: true });
            }
        }
        wrong
    }
}

/// A cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cache {
    element: u64,
    arena: u64,
    next: u64,
    /// Where bins are.
    bins: u64,
}

impl Cache {
    /// The cache with this element, if it is one: it has its own address in two ways.
    fn read<M: Peek>(memory: &mut M, layout: &CacheLayout, element: u64) -> Option<Self> {
        let mut word = |at: u64| {
            let mut words = [0];
            (at.is_multiple_of(8) && memory.read_anew(at, &mut words) == 1).then(|| words[0])
        };
        let bins = word(element.checked_add(layout.descriptor + 16)?)?;
        let is_it = match layout.kind {
            CacheKind::Stacks => word(bins.checked_sub(8)?)? == element,
            CacheKind::Counted { small, large } => {
                bins == element + small && word(element + layout.descriptor + 24)? == element + large
            }
        };
        let next = is_it.then(|| word(element + layout.link))??;
        let arena = word(element + layout.arena)?;
        let is_arena = arena.is_multiple_of(8) && (PAGE..1 << 48).contains(&arena);
        is_arena.then_some(Self { element, arena, next, bins })
    }

    /// Visits the bins: class, words.
    fn bins<M: Peek>(&self, memory: &mut M, layout: &CacheLayout) -> Vec<(u8, [u64; BIN_WORDS])> {
        let mut read = |at: u64, first: u64, count: u64| {
            let mut words = vec![0; BIN_WORDS * count as usize];
            let read = memory.read_anew(at, &mut words);
            words.truncate(read);
            let (bins, _) = words.as_chunks::<BIN_WORDS>();
            (first..).zip(bins.iter().copied()).map(|(class, bin)| (class as u8, bin)).collect::<Vec<_>>()
        };
        match layout.kind {
            CacheKind::Stacks => read(self.bins, 0, CACHED_CLASSES),
            CacheKind::Counted { large, .. } => {
                let mut bins = read(self.bins, 0, SMALL_CLASSES);
                bins.extend(read(self.element + large, SMALL_CLASSES, CLASSES - SMALL_CLASSES));
                bins
            }
        }
    }

    /// Visits the blocks: class, address.
    fn each<M: Peek>(
        &self,
        memory: &mut M,
        layout: &CacheLayout,
        blocks: &mut Vec<(u8, u64)>,
        stacks: &mut Vec<u64>,
    ) {
        let mut words = Vec::new();
        for (class, bin) in self.bins(memory, layout) {
            let Some(stack) = stack(layout, bin) else { continue };
            // Where the stack is, though there may be nothing on it.
            stacks.extend(stack.end.checked_sub(8));
            words.clear();
            words.resize(((stack.end - stack.start) / 8) as usize, 0);
            let read = memory.read_anew(stack.start, &mut words).min(words.len());
            blocks.extend(words.iter().take(read).map(|&address| (class, address)));
        }
    }
}

/// What of a bin's stack has blocks. `None`: this is no bin.
fn stack(layout: &CacheLayout, [first, _, third]: [u64; BIN_WORDS]) -> Option<Range<u64>> {
    let is_address = |address: u64| address.is_multiple_of(8) && address > PAGE && address < 1 << 48;
    match layout.kind {
        CacheKind::Stacks => {
            let end = third >> 32 & 0xffff;
            let bytes = end.wrapping_sub(first) & 0xffff;
            (is_address(first) && bytes.is_multiple_of(8)).then(|| first..first + bytes)
        }
        CacheKind::Counted { .. } => {
            let count = first >> 32;
            let start = third.checked_sub(count.checked_mul(8)?)?;
            (is_address(third) && is_address(start) && count <= MOST_CACHED).then_some(start..third)
        }
    }
}

/// The caches of an arena.
enum Listed {
    /// It has none.
    Not,
    /// Its list does not end.
    Broken,
    Caches(Vec<Cache>),
}

/// The caches that an arena has in its list. `words`: as many as an arena may have before that list.
fn listed<M: Peek>(memory: &mut M, layout: &CacheLayout, arena: u64, words: &mut [u64]) -> Listed {
    let count = memory.read(arena, words).min(words.len());
    // Two lists have the same cache first.
    let first = words.get(..count).unwrap_or_default().windows(2).find_map(|pair| {
        let &[element, descriptor] = pair else { return None };
        let is_pair = element != 0 && descriptor == element.wrapping_add(layout.descriptor);
        let cache = is_pair.then(|| Cache::read(memory, layout, element))??;
        (cache.arena == arena).then_some(cache)
    });
    let Some(first) = first else { return Listed::Not };
    let (mut caches, mut seen, mut next) = (vec![first], BTreeSet::new(), first.next);
    while next != first.element {
        let cache = Cache::read(memory, layout, next).filter(|cache| cache.arena == arena);
        match cache {
            Some(cache) if seen.insert(cache.element) && caches.len() < MOST_CACHES => {
                caches.push(cache);
                next = cache.next;
            }
            _ => return Listed::Broken,
        }
    }
    Listed::Caches(caches)
}
