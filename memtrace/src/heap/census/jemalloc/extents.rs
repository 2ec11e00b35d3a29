//! What extents describe: slabs of small blocks, large blocks, and free memory.

use std::ops::Range;

use super::{
    super::{
        arenas::read_all,
        memory::{PAGE, Peek, Regions},
    },
    layout::{
        BASE_UNIT, BITMAP_WORDS, ENTRIES, EXTENT_WORDS, LEAF_SPAN, Layout, NODE, PAGE_BITS, class_size,
    },
    pages::Pages,
    tree::Tree,
};

/// Extents at most: 32 GiB of the smallest large blocks, or far more of others.
const MOST_EXTENTS: usize = 1 << 21;
/// How often an extent is read that changes meanwhile.
const ATTEMPTS: usize = 8;
/// Of extents that do not fit, so many are taken as changing, and of those that do this part more.
const CHANGING: usize = 64;
const CHANGING_PART: usize = 50;

/// An extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Extent {
    /// Where its pages begin.
    pub(super) start: u64,
    /// Their bytes.
    pub(super) size: u64,
    /// The number of its arena.
    pub(super) arena: u16,
    pub(super) content: Content,
}

impl Extent {
    pub(super) fn range(&self) -> Range<u64> {
        self.start..self.start + self.size
    }
}

/// What is in an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Blocks of one class.
    Slab {
        /// The class.
        class: u8,
        /// How many there may be.
        regions: u16,
        /// The place of the words that say which are free.
        bits: u32,
    },
    /// One block.
    Large {
        /// Its class.
        class: u8,
        /// How far behind the beginning it begins: to spread blocks over cache sets.
        offset: u16,
        /// Whether a thread's cache has it, or the allocator itself.
        is_free: bool,
    },
    /// Nothing; in this state.
    Free(u8),
}

/// The extents of a process.
#[derive(Default)]
pub(super) struct Extents {
    /// In order of address.
    pub(super) all: Vec<Extent>,
    /// Which regions of slabs are free, [`BITMAP_WORDS`] for each slab.
    pub(super) free: Vec<u64>,
    /// Which are free because a thread's cache has them, or the allocator itself.
    pub(super) taken: Vec<u64>,
    /// Where extents are described: places of `extent_t`, in units of [`BASE_UNIT`].
    pub(super) described: std::collections::BTreeSet<u64>,
    /// Pages whose extents made no sense, and their sum.
    pub(super) unknown: u64,
    /// Bytes with blocks where there was no memory when that was looked up.
    pub(super) left: u64,
    /// Slabs whose bits were compared.
    pub(super) slabs: u64,
    /// Entries that made sense when they were read again.
    pub(super) read_again: u64,
    /// Entries that did not, at any attempt.
    pub(super) wrong: usize,
}

/// Why extents could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Too many make no sense.
    Wrong,
    /// There are too many.
    Many,
}

impl Extents {
    /// Reads all extents of a tree. `most`: entries at most, of each leaf.
    pub(super) fn read<M: Peek>(
        memory: &mut M,
        regions: &Regions,
        tree: &Tree,
        layout: &Layout,
        most: usize,
    ) -> Result<Self, Stop> {
        let (pages, leaves) = (Pages::new(), &tree.leaves);
        let mut reader = Reader { memory, regions, layout, leaves, pages, found: Self::default() };
        let mut words = Vec::new();
        for &(number, leaf) in &tree.leaves {
            words.clear();
            words.resize(ENTRIES, 0);
            read_all(reader.memory, leaf..leaf + NODE, &mut words);
            reader.leaf(number, leaf, &words, most)?;
        }
        Ok(reader.found)
    }

    /// Leaves out blocks that were not in use when the extents were read again. What is not known then stays as it is.
    pub(super) fn confirm(&mut self, later: &Self) {
        for extent in &mut self.all {
            let Some(now) = later.place(extent.start).and_then(|place| later.all.get(place)) else {
                continue;
            };
            match (&mut extent.content, now.content) {
                (Content::Free(_), _) => {}
                (Content::Large { offset, .. }, Content::Large { offset: other, .. })
                    if *offset == other && extent.start == now.start => {}
                (Content::Large { is_free, .. }, _) => *is_free = true,
                (Content::Slab { class, regions, bits }, other) => {
                    let place = *bits as usize;
                    let free = self.free.get_mut(place..place + BITMAP_WORDS).unwrap_or_default();
                    let other = match other {
                        Content::Slab { class: other, regions: number, bits }
                            if *class == other && *regions == number && extent.start == now.start =>
                        {
                            later.free.get(bits as usize..bits as usize + BITMAP_WORDS)
                        }
                        _ => None,
                    };
                    match other {
                        Some(other) => free.iter_mut().zip(other).for_each(|(word, other)| *word |= other),
                        None => free.fill(u64::MAX),
                    }
                }
            }
        }
    }

    /// The extent that an address is in.
    pub(super) fn place(&self, address: u64) -> Option<usize> {
        let place = self.all.partition_point(|extent| extent.start + extent.size <= address);
        self.all.get(place).filter(|extent| extent.start <= address)?;
        Some(place)
    }

    /// Takes a block out of what the program has. `class`: what its size is, if that is known; otherwise `address` may be anywhere
    /// in the block. Returns its size; 0: that was done before. `None`: there is no such block in use.
    pub(super) fn take(&mut self, address: u64, class: Option<u64>) -> Option<u64> {
        let place = self.place(address)?;
        let extent = self.all.get_mut(place)?;
        let behind = address - extent.start;
        match &mut extent.content {
            Content::Free(_) => None,
            Content::Large { class: own, offset, is_free } => {
                let is_it =
                    class.is_none_or(|class| class == u64::from(*own) && behind == u64::from(*offset));
                let was_free = std::mem::replace(is_free, *is_free || is_it);
                is_it.then(|| if was_free { 0 } else { class_size(u64::from(*own)) })
            }
            Content::Slab { class: own, regions, bits } => {
                let size = class_size(u64::from(*own));
                let region = behind / size;
                let is_it = class.is_none_or(|class| class == u64::from(*own) && behind.is_multiple_of(size));
                if !is_it || region >= u64::from(*regions) {
                    return None;
                }
                self.taken.resize(self.free.len(), 0);
                let place = *bits as usize + (region / 64) as usize;
                let bit = 1 << (region % 64);
                if self.free.get(place)? & bit != 0 {
                    return None;
                }
                let taken = self.taken.get_mut(place)?;
                let was_taken = *taken & bit != 0;
                *taken |= bit;
                Some(if was_taken { 0 } else { size })
            }
        }
    }
}

struct Reader<'a, M> {
    memory: &'a mut M,
    regions: &'a Regions,
    layout: &'a Layout,
    leaves: &'a [(u64, u64)],
    pages: Pages,
    found: Extents,
}

impl<M: Peek> Reader<'_, M> {
    fn leaf(&mut self, number: u64, leaf: u64, entries: &[u64], most: usize) -> Result<(), Stop> {
        let mut looked_at = 0;
        let mut place = 0;
        while let Some((skipped, &entry)) = entries
            .get(place..)
            .unwrap_or_default()
            .iter()
            .enumerate()
            .find(|(_, entry)| !self.layout.is_empty(**entry))
        {
            place += skipped;
            looked_at += 1;
            if looked_at > most {
                break;
            }
            let page = number * LEAF_SPAN + ((place as u64) << PAGE_BITS);
            place = match self.entry(page, leaf + place as u64 * 8, entry)? {
                // The last page has an entry too, and those of a slab.
                Some(extent) => self.follow(&extent, entry, place, entries),
                None => place + 1,
            };
        }
        Ok(())
    }

    /// Where entries go on behind an extent.
    fn follow(&mut self, extent: &Extent, entry: u64, place: usize, entries: &[u64]) -> usize {
        let end = place.saturating_add((extent.size >> PAGE_BITS) as usize);
        let is_slab = matches!(extent.content, Content::Slab { .. });
        let pointer = entry & self.layout.pointer;
        let others = entries.get(place + 1..end.min(entries.len())).unwrap_or_default();
        let is_own = |other: u64| other & self.layout.pointer == pointer;
        let agrees = if is_slab {
            others.iter().all(|&other| is_own(other))
        } else {
            others.split_last().is_none_or(|(last, between)| {
                // The last page may be in another leaf.
                let ends_here = end <= entries.len();
                (is_own(*last) || (!ends_here && self.layout.is_empty(*last)))
                    && between.iter().all(|&other| self.layout.is_empty(other))
            })
        };
        // Otherwise it changes this moment, or entries were left from before: they are looked at.
        if agrees { end } else { place + 1 }
    }

    /// Reads the extent that a page begins, or is in. `at`: where its entry is. Returns the first one.
    fn entry(&mut self, page: u64, at: u64, mut entry: u64) -> Result<Option<Extent>, Stop> {
        let last = self.found.all.last().copied().filter(|last| page < last.start + last.size);
        for attempt in 0..ATTEMPTS {
            let Some(address) = self.layout.extent_at(entry) else {
                if self.layout.is_empty(entry) {
                    return Ok(None);
                }
                entry = self.again(at);
                continue;
            };
            let words = if attempt == 0 {
                self.pages.words(self.memory, address)
            } else {
                let mut words = [0; EXTENT_WORDS];
                (self.memory.read_anew(address, &mut words) == EXTENT_WORDS).then_some(words)
            };
            let parsed = words.and_then(|words| self.layout.parse(page, entry, &words));
            if let Some((extent, free)) = parsed
                && extent.range().contains(&page)
            {
                if page == extent.start && (last.is_none() || self.cut(page)) {
                    self.found.read_again += u64::from(attempt > 0);
                    return self.add(extent, free, address).map(Some);
                }
                // A later page of one that is known, or of one that begins with a leaf before; or of one that was made since.
                let is_known = last.is_some_and(|last| last.range() == extent.range());
                if page != extent.start && (is_known || (attempt > 0 && self.begins(&extent, address))) {
                    self.found.read_again += u64::from(!is_known);
                    return Ok(None);
                }
            }
            entry = self.again(at);
        }
        self.found.wrong += 1;
        self.found.unknown += PAGE;
        let most = CHANGING + self.found.all.len() / CHANGING_PART;
        if self.found.wrong > most { Err(Stop::Wrong) } else { Ok(None) }
    }

    /// An extent begins within the last one, which must be a free one that was divided since it was read.
    fn cut(&mut self, page: u64) -> bool {
        let last = self
            .found
            .all
            .last_mut()
            .filter(|last| matches!(last.content, Content::Free(_)) && last.start < page);
        if let Some(last) = last {
            last.size = page - last.start;
            return true;
        }
        false
    }

    /// Whether the first page of an extent leads to it now.
    fn begins(&mut self, extent: &Extent, address: u64) -> bool {
        let Some(&(_, leaf)) = self.leaves.iter().find(|&&(number, _)| number == extent.start / LEAF_SPAN)
        else {
            return false;
        };
        let at = leaf + ((extent.start % LEAF_SPAN) >> PAGE_BITS) * 8;
        self.layout.extent_at(self.again(at)) == Some(address)
    }

    /// What an entry is now.
    fn again(&mut self, at: u64) -> u64 {
        let mut words = [0];
        if self.memory.read_anew(at, &mut words) == 1 { words[0] } else { 0 }
    }

    /// Whether there was memory where blocks are said to be.
    fn is_there(&self, extent: &Extent) -> bool {
        let Range { start: mut at, end } = extent.range();
        while at < end {
            let Some(region) = self.regions.at(at) else { return false };
            at = region.range.end;
        }
        true
    }

    fn add(&mut self, mut extent: Extent, free: [u64; BITMAP_WORDS], address: u64) -> Result<Extent, Stop> {
        let is_there = matches!(extent.content, Content::Free(_)) || self.is_there(&extent);
        let found = &mut self.found;
        if !is_there {
            // It was mapped since, or cannot be read.
            found.left = found.left.saturating_add(extent.size);
            return Ok(extent);
        }
        if found.all.len() >= MOST_EXTENTS {
            return Err(Stop::Many);
        }
        if let Content::Slab { bits, .. } = &mut extent.content {
            *bits = u32::try_from(found.free.len()).ok().ok_or(Stop::Many)?;
            found.free.extend(free);
            found.slabs += 1;
        }
        found.described.insert(address / BASE_UNIT);
        found.all.push(extent);
        Ok(extent)
    }
}
