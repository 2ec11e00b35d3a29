//! Free blocks in the caches of threads (`tcache`): their neighbours say that they are in use. Each has a key in its second
//! word. That alone does not tell: what a thread leaves at its end goes to others with the key still in it.

use super::{
    layout::{
        ALIGNMENT, FLAGS, HEADER, KeyKind, LEAST_CHUNK, Layout, PREV_INUSE, cache, is_chunk_address, mangle,
    },
    memory::Peek,
    walk::{Chunk, Sink},
    window::Window,
};

/// Blocks that may be caches, at most.
const MOST_CANDIDATES: usize = 1 << 16;
/// Entries of caches that are read one by one, at most.
const MOST_READS: u32 = 1 << 19;
/// How often a list is read if it changes meanwhile.
const ATTEMPTS: usize = 4;

/// Blocks that may be caches.
#[derive(Debug, Default)]
pub(super) struct Candidates {
    /// What the thread has of it.
    addresses: Vec<u64>,
    /// What was in some of them when they were walked over.
    contents: Vec<(u64, [u64; cache::WORDS])>,
    /// Whether there were more.
    pub(super) more: bool,
    /// Whether the first chunk is a cache: that of the main thread.
    pub(super) is_first: bool,
    /// Whether a chunk was seen.
    seen: bool,
    /// Whether those with nothing in them are wanted: they may have something a moment later.
    with_empty: bool,
}

impl Candidates {
    /// Notes a chunk if it may be a cache. `most`: blocks of a size in it. Returns whether it was noted.
    #[inline]
    pub(super) fn note(&mut self, chunk: &Chunk, window: &Window, most: u64) -> bool {
        let is_first = !std::mem::replace(&mut self.seen, true);
        matches!(chunk.size, cache::CHUNK | cache::LARGER_CHUNK) && self.look(chunk, window, most, is_first)
    }

    #[cold]
    fn look(&mut self, chunk: &Chunk, window: &Window, most: u64, is_first: bool) -> bool {
        let address = chunk.address + HEADER;
        if let Some(words) = window.get::<{ cache::COUNT_WORDS }>(address) {
            let mut counts = words.iter().flat_map(|&word| counts_of(word));
            if !counts.clone().all(|count| count <= most) {
                return false;
            }
            self.is_first |= is_first;
            if !self.with_empty && counts.all(|count| count == 0) {
                return false;
            }
        }
        self.is_first |= is_first;
        let has_room = self.addresses.len() < MOST_CANDIDATES;
        if has_room {
            self.addresses.push(address);
            self.contents.extend(window.get(address).map(|words| (address, words)));
        } else {
            self.more = true;
        }
        has_room
    }
}

/// Looks for caches only.
pub(super) struct Seek<'a> {
    candidates: Candidates,
    samples: &'a mut Samples,
    most: u64,
}

impl<'a> Seek<'a> {
    /// `most`: blocks of a size in a cache.
    pub(super) fn new(samples: &'a mut Samples, most: u64) -> Self {
        let candidates = Candidates { with_empty: true, ..Candidates::default() };
        Self { candidates, samples, most }
    }

    /// Whether the first chunk is a cache.
    pub(super) fn is_first(&self) -> bool {
        self.candidates.is_first
    }
}

impl<M: Peek> Sink<M> for Seek<'_> {
    fn chunk(&mut self, chunk: &Chunk, in_use: bool, window: &Window, memory: &mut M) {
        // At once: a thread may end, and its cache with it.
        if in_use && self.candidates.note(chunk, window, self.most) {
            self.samples.add(memory, &[chunk.address + HEADER], self.most);
        }
    }
}

/// The four counts in a word.
fn counts_of(word: u64) -> [u64; 4] {
    [0, 16, 32, 48].map(|shift| word >> shift & 0xffff)
}

/// The lists of a cache.
struct Lists {
    address: u64,
    /// Count, first entry, number of the bin.
    lists: Vec<(u64, u64, u64)>,
}

impl Lists {
    /// Reads a cache that has something in it. `None`: it is none.
    fn read<M: Peek>(memory: &mut M, address: u64, most: u64) -> Option<Self> {
        let mut words = [0; cache::WORDS];
        (memory.read_anew(address, &mut words) == cache::WORDS).then_some(())?;
        Self::parse(address, &words, most)
    }

    fn parse(address: u64, words: &[u64; cache::WORDS], most: u64) -> Option<Self> {
        let (counts, entries) = words.split_at(cache::COUNT_WORDS);
        let counts = counts.iter().flat_map(|&word| counts_of(word));
        let mut lists = Vec::new();
        // One bin may be changing.
        let mut odd = 0;
        for (bin, (count, &entry)) in (0u64..).zip(counts.zip(entries)) {
            let is_list = count <= most && (entry == 0 || is_chunk_address(entry));
            odd += u32::from((count == 0) != (entry == 0));
            if !is_list || odd > 1 {
                return None;
            }
            if entry != 0 {
                lists.push((count, entry, bin));
            }
        }
        (!lists.is_empty()).then_some(Self { address, lists })
    }
}

/// The first entry of a bin.
fn head<M: Peek>(memory: &mut M, cache: u64, bin: u64) -> Option<u64> {
    let mut head = [0];
    let place = cache + (cache::COUNT_WORDS as u64 + bin) * 8;
    (memory.read_anew(place, &mut head) == 1).then_some(())?;
    head.first().copied()
}

/// The size word, the link and the key of an entry, if it is one of a bin.
fn entry<M: Peek>(memory: &mut M, address: u64, bin: u64) -> Option<(u64, u64)> {
    let mut words = [0; 3];
    let is_read = is_chunk_address(address) && memory.read_anew(address - 8, &mut words) == 3;
    let [size, link, key] = words;
    (is_read && size & !FLAGS == LEAST_CHUNK + bin * ALIGNMENT).then_some((link, key))
}

/// How to tell blocks that may be in a cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Keys {
    /// There are none.
    None,
    /// They have this word.
    Random(u64),
    /// They have the address of a cache: one of these, in order.
    Caches(Vec<u64>),
}

impl Keys {
    #[inline]
    pub(super) fn has(&self, word: u64) -> bool {
        match self {
            Self::None => false,
            Self::Random(key) => *key == word,
            Self::Caches(caches) => caches.binary_search(&word).is_ok(),
        }
    }
}

/// What was found in caches, to find out the layout from.
#[derive(Debug, Default)]
pub(super) struct Samples {
    caches: Vec<u64>,
    samples: Vec<Sample>,
}

/// The first block of a list.
#[derive(Clone, Copy, Debug)]
struct Sample {
    cache: u64,
    key: u64,
    /// Whether its link leads to the second one, or to none if there is none, as it is and if it is mangled.
    plain: bool,
    mangled: bool,
}

impl Samples {
    /// Looks into blocks that may be caches.
    pub(super) fn add<M: Peek>(&mut self, memory: &mut M, candidates: &[u64], most: u64) {
        for &cache in candidates {
            let Some(Lists { lists, .. }) = Lists::read(memory, cache, most) else { continue };
            let before = self.samples.len();
            for (count, address, bin) in lists {
                // What the thread has taken meanwhile tells nothing.
                if before < MOST_CANDIDATES
                    && let Some((link, key)) = entry(memory, address, bin)
                    && head(memory, cache, bin) == Some(address)
                {
                    let mut leads = |next: u64| {
                        let second = entry(memory, next, bin);
                        if count == 1 { next == 0 } else { second.is_some_and(|(_, same)| same == key) }
                    };
                    let (plain, mangled) = (leads(link), leads(mangle(address, link)));
                    self.samples.push(Sample { cache, key, plain, mangled });
                }
            }
            if self.samples.len() > before {
                self.caches.push(cache);
            }
        }
    }
}

/// Finds out the layout from what is in caches. `None`: they contradict all layouts.
pub(super) fn choose(
    Samples { caches, samples }: &Samples,
    layouts: &[&'static Layout],
) -> Option<Vec<(&'static Layout, Keys)>> {
    if samples.is_empty() {
        return Some(layouts.iter().map(|layout| (*layout, Keys::None)).collect());
    }
    let mut keys: Vec<u64> = samples.iter().map(|sample| sample.key).filter(|&key| key != 0).collect();
    keys.sort_unstable();
    let random = keys.chunk_by(|one, other| one == other).max_by_key(|same| same.len());
    let random = random.and_then(|same| same.first().copied()).unwrap_or_default();
    let is_owner = |key: u64| caches.contains(&key);
    let fits = |layout: &Layout| {
        let fitting = samples.iter().filter(|sample| {
            let has_key = match layout.key {
                KeyKind::Cache => sample.key == sample.cache,
                KeyKind::Random => sample.key == random && !is_owner(sample.key),
            };
            has_key && if layout.mangled { sample.mangled } else { sample.plain }
        });
        fitting.count()
    };
    // Some may have been changing.
    let best = layouts.iter().map(|layout| fits(layout)).max().unwrap_or_default();
    let is_known = best > 0 && best * 2 >= samples.len();
    let chosen = layouts.iter().filter(|layout| is_known && fits(layout) == best);
    let chosen: Vec<_> = chosen
        .map(|&layout| match layout.key {
            KeyKind::Cache => {
                let mut caches = caches.clone();
                caches.sort_unstable();
                (layout, Keys::Caches(caches))
            }
            KeyKind::Random => (layout, Keys::Random(random)),
        })
        .collect();
    (!chosen.is_empty()).then_some(chosen)
}

/// A block with a key.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyed {
    pub(super) address: u64,
    /// Bytes of its chunk.
    pub(super) chunk: u64,
    pub(super) link: u64,
    /// The number of its arena.
    pub(super) arena: usize,
    /// Whether it is in a cache.
    pub(super) is_cached: bool,
}

/// Finds out which blocks are in caches. `keyed`: in order of address. Returns the number of caches with blocks in them, and
/// that of lists that did not end.
pub(super) fn resolve<M: Peek>(
    memory: &mut M,
    candidates: &Candidates,
    layout: &Layout,
    keys: &Keys,
    most: u64,
    keyed: &mut [Keyed],
) -> (u64, u64) {
    let (mut caches, mut broken) = (0, u64::from(candidates.more));
    let mut reads = MOST_READS;
    // What is in a cache now, or was when it was walked over: the thread may have ended since.
    for (address, words) in &candidates.contents {
        for (count, first, bin) in
            Lists::parse(*address, words, most).into_iter().flat_map(|cache| cache.lists)
        {
            follow_keyed(keyed, layout, count, first, bin);
        }
    }
    for &address in &candidates.addresses {
        let Some(cache) = Lists::read(memory, address, most) else { continue };
        let mut is_cache = false;
        for &(count, first, bin) in &cache.lists {
            if follow_keyed(keyed, layout, count, first, bin) {
                is_cache = true;
                continue;
            }
            let ends = (0..ATTEMPTS).any(|_| {
                let list = (cache.address, bin, count);
                let (seen, ends) = follow(memory, keyed, layout, keys, list, &mut reads);
                is_cache |= seen;
                ends
            });
            // What is no cache has no lists.
            broken += u64::from(!ends && is_cache);
        }
        caches += u64::from(is_cache);
    }
    (caches, broken)
}

/// What became of a block with a key that is in no cache.
pub(super) fn is_in_use<M: Peek>(memory: &mut M, keyed: &Keyed) -> bool {
    let (mut size, mut next) = ([0], [0]);
    let chunk = keyed.address - HEADER;
    // A thread that ended gave it to a bin, or it was merged with others.
    let is_gone = memory.read_anew(chunk + 8, &mut size) == 1
        && memory.read_anew(chunk + keyed.chunk + 8, &mut next) == 1
        && (size[0] & !FLAGS != keyed.chunk || next[0] & PREV_INUSE == 0);
    !is_gone
}

/// Follows a list through what the walk saw. Returns whether it is the whole list.
fn follow_keyed(keyed: &mut [Keyed], layout: &Layout, count: u64, first: u64, bin: u64) -> bool {
    let mut address = first;
    for _ in 0..count {
        let Ok(place) = keyed.binary_search_by_key(&address, |keyed| keyed.address) else { return false };
        let Some(entry) = keyed.get_mut(place) else { return false };
        if entry.chunk != LEAST_CHUNK + bin * ALIGNMENT {
            return false;
        }
        entry.is_cached = true;
        address = layout.link(entry.address, entry.link);
    }
    address == 0
}

/// Follows a list through memory. Returns whether there are entries, and whether it ended.
fn follow<M: Peek>(
    memory: &mut M,
    keyed: &mut [Keyed],
    layout: &Layout,
    keys: &Keys,
    (cache, bin, count): (u64, u64, u64),
    reads: &mut u32,
) -> (bool, bool) {
    let Some(mut address) = head(memory, cache, bin) else { return (false, false) };
    let mut seen = false;
    // It may have grown since it was counted.
    for _ in 0..count + 64 {
        if address == 0 {
            return (seen, true);
        }
        let Some(left) = reads.checked_sub(1) else { break };
        *reads = left;
        let Some((link, key)) = entry(memory, address, bin) else { break };
        if !keys.has(key) {
            break;
        }
        seen = true;
        if let Ok(place) = keyed.binary_search_by_key(&address, |keyed| keyed.address)
            && let Some(entry) = keyed.get_mut(place)
        {
            entry.is_cached = true;
        }
        address = layout.link(address, link);
    }
    (seen, false)
}

const _: () = assert!(cache::KEY == 8, "`entry` and the walk read the second word");
