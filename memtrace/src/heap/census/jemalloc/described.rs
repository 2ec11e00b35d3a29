//! What one extent is, by its description and by the entry that leads to it.

use super::{
    super::memory::PAGE,
    extents::{Content, Extent},
    layout::{
        ACTIVE, BITMAP, BITMAP_WORDS, BITS, CLASSES, EXTENT_WORDS, LAST_STATE, LEAF_CLASS, LEAF_SLAB,
        LEAST_LARGE, Layout, MOST_REGIONS, SIZE, SMALL_CLASSES, START, class_size,
    },
};

impl Layout {
    /// Whether an entry of a leaf has no extent. Its other bits may be left.
    pub(super) fn is_empty(&self, entry: u64) -> bool {
        entry & self.pointer == 0
    }

    /// The address of the extent that an entry of a leaf has. `None`: it is no such entry.
    pub(super) fn extent_at(&self, entry: u64) -> Option<u64> {
        let address = entry & self.pointer;
        (entry & self.zero == 0 && address >= PAGE && LEAF_CLASS.of(entry) <= CLASSES).then_some(address)
    }

    /// What an extent is, and which regions of it are free, to which a page has this entry. `None`: it is none.
    pub(super) fn parse(
        &self,
        page: u64,
        entry: u64,
        words: &[u64; EXTENT_WORDS],
    ) -> Option<(Extent, [u64; BITMAP_WORDS])> {
        let (bits, first, size) = (words[BITS], words[START], words[SIZE] & !(PAGE - 1));
        let (state, class) = (self.state.of(bits), self.class.of(bits));
        let is_slab = self.slab.of(bits) != 0;
        let start = first & !(PAGE - 1);
        let addresses = PAGE..1 << 48;
        let is_there = addresses.contains(&size) && addresses.contains(&start);
        if !is_there || class > CLASSES {
            return None;
        }
        let arena = self.arena.of(bits) as u16;
        let extent = |content| Extent { start, size, arena, content };
        // One that is active and has no class is not yet, or no longer, anyone's. What was a slab may still be marked as such.
        if state != ACTIVE || class == CLASSES {
            return (state <= LAST_STATE).then(|| (extent(Content::Free(state as u8)), [0; BITMAP_WORDS]));
        }
        // Of a large block the entry of the last page may be from before.
        let leaf_state = self.leaf_state.map_or(state, |field| field.of(entry));
        let agrees =
            LEAF_CLASS.of(entry) == class && (LEAF_SLAB.of(entry) != 0) == is_slab && leaf_state == state;
        if !agrees && (page == start || is_slab) {
            return None;
        }
        let block = class_size(class);
        if !is_slab {
            let whole = block.next_multiple_of(PAGE);
            let is_class = size == whole || size == whole + PAGE;
            // Of a small block that is profiled.
            let is_sample = class < SMALL_CLASSES && size <= LEAST_LARGE + PAGE;
            let offset = first - start;
            if !(is_class || is_sample) || offset + block > size {
                return None;
            }
            let content = Content::Large { class: class as u8, offset: offset as u16, is_free: false };
            return Some((extent(content), [0; BITMAP_WORDS]));
        }
        let regions = size / block;
        let free = words.last_chunk::<BITMAP_WORDS>().copied().unwrap_or_default();
        if class >= SMALL_CLASSES || first != start || !(1..=MOST_REGIONS).contains(&regions) {
            return None;
        }
        let mut free = free;
        for (place, word) in free.iter_mut().enumerate() {
            // What is behind the last word of the bitmap says nothing.
            if place as u64 * 64 >= regions {
                *word = 0;
            }
        }
        let last = free.get((regions as usize - 1) / 64).copied().unwrap_or_default();
        let unused = if regions.is_multiple_of(64) { 0 } else { last >> (regions % 64) };
        let count: u32 = free.iter().map(|word| word.count_ones()).sum();
        if unused != 0 || u64::from(count) != self.free.of(bits) {
            return None;
        }
        let content = Content::Slab { class: class as u8, regions: regions as u16, bits: 0 };
        Some((extent(content), free))
    }
}

const _: () = assert!(BITMAP + BITMAP_WORDS == EXTENT_WORDS);
