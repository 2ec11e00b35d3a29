//! How releases of jemalloc lay out what they keep, as data: with pages of 4 KiB, a quantum of 16 bytes and addresses of 48 bits,
//! as they are built by default. All of it is private to jemalloc: what does not fit in every detail is refused.

/// Bits of an address that a leaf of the tree distinguishes, and the root: `rtree_levels`, rtree.h.
pub(super) const LEAF_BITS: u32 = 18;
pub(super) const PAGE_BITS: u32 = 12;
/// Entries of a leaf, and of the root.
pub(super) const ENTRIES: usize = 1 << LEAF_BITS;
/// Bytes of a leaf, and of the root.
pub(super) const NODE: u64 = 8 << LEAF_BITS;
/// Bytes of address space that a leaf describes.
pub(super) const LEAF_SPAN: u64 = 1 << (LEAF_BITS + PAGE_BITS);

/// Size classes (`SC_NSIZES`, sc.h); the first of them are those of slabs (`SC_NBINS`).
pub(super) const CLASSES: u64 = 232;
pub(super) const SMALL_CLASSES: u64 = 36;
/// The smallest size that has an extent of its own (`SC_LARGE_MINCLASS`).
pub(super) const LEAST_LARGE: u64 = 16 << 10;
/// Regions of a slab at most (`SC_SLAB_MAXREGS`), and the words of their bits.
pub(super) const MOST_REGIONS: u64 = 512;
pub(super) const BITMAP_WORDS: usize = 8;

/// Bytes of a size class (`reg_size_compute`, sc.c): 8, multiples of 16 up to 64, then four to each doubling.
pub(super) fn class_size(class: u64) -> u64 {
    match class {
        0 => 8,
        1..=4 => class * 16,
        _ => {
            let (group, step) = ((class - 5) / 4, (class - 5) % 4 + 1);
            (64 + 16 * step) << group
        }
    }
}

/// `extent_state_e`: the first four; those up to the last one are free, and on their way from one state to another.
pub(super) const ACTIVE: u64 = 0;
pub(super) const DIRTY: u64 = 1;
pub(super) const MUZZY: u64 = 2;
pub(super) const RETAINED: u64 = 3;
pub(super) const LAST_STATE: u64 = 5;

/// Words of `edata_t`, `extent_t`: its bits, where the extent begins, its size with other bits below a page, and from the ninth
/// word on which regions of a slab are free.
pub(super) const EXTENT_WORDS: usize = 16;
pub(super) const BITS: usize = 0;
pub(super) const START: usize = 1;
pub(super) const SIZE: usize = 2;
pub(super) const BITMAP: usize = 8;

/// Blocks of `base_t` begin and end at multiples of this (`HUGEPAGE`), with `base_block_t`: a size, the next block, and an
/// extent that is the rest of it, without an arena.
pub(super) const BASE_UNIT: u64 = 2 << 20;
pub(super) const NO_ARENA: u64 = 4095;

/// A field of a word: how many bits are below it, and its own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field(pub(super) u32, pub(super) u32);

impl Field {
    pub(super) fn of(self, word: u64) -> u64 {
        word >> self.0 & ((1 << self.1) - 1)
    }
}

/// A layout, and the releases that have it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) releases: &'static str,
    /// In the bits of an extent.
    pub(super) arena: Field,
    pub(super) slab: Field,
    pub(super) state: Field,
    pub(super) class: Field,
    pub(super) free: Field,
    /// In an entry of a leaf: the address of an extent, and what is zero.
    pub(super) pointer: u64,
    pub(super) zero: u64,
    /// In an entry: the state of its extent.
    pub(super) leaf_state: Option<Field>,
    pub(super) cache: CacheLayout,
}

/// In an entry of a leaf: the size class, and whether it is a slab.
pub(super) const LEAF_CLASS: Field = Field(48, 16);
pub(super) const LEAF_SLAB: Field = Field(0, 1);

/// A thread's cache: offsets in bytes from the element that arenas have in a list.
#[derive(Debug)]
pub(super) struct CacheLayout {
    /// The next element.
    pub(super) link: u64,
    /// What arenas have in another list: its link, which is two words, and where bins are.
    pub(super) descriptor: u64,
    pub(super) arena: u64,
    pub(super) kind: CacheKind,
}

/// What a cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CacheKind {
    /// Bins of small classes and of others apart, both in the element, at these offsets. A bin has a count, and the address behind
    /// its stack.
    Counted { small: u64, large: u64 },
    /// All bins together elsewhere, behind the address of the element. A bin has the address of the first block in its stack, and
    /// the lower bits of the end of that.
    Stacks,
}

/// Words of `cache_bin_t`.
pub(super) const BIN_WORDS: usize = 3;
/// Classes that a cache may have at most: `TCACHE_MAXCLASS_LIMIT`, 8 MiB.
pub(super) const CACHED_CLASSES: u64 = 73;
/// Blocks in a bin at most, with counts; with stacks their lower bits are 16.
pub(super) const MOST_CACHED: u64 = 1 << 13;
/// From the beginning of an arena (`arena_t`) to the lists of its caches at most: there are statistics before.
pub(super) const MOST_STATISTICS: usize = 4096;

/// The layouts known. What belongs to them is in edata.h and extent_structs.h, rtree.h, tcache_structs.h, cache_bin.h.
pub(super) static LAYOUTS: [Layout; 2] = [
    Layout {
        releases: "5.3",
        arena: Field(0, 12),
        slab: Field(12, 1),
        state: Field(17, 3),
        class: Field(20, 8),
        free: Field(28, 10),
        pointer: 0xffff_ffff_ff80,
        zero: 0x60,
        leaf_state: Some(Field(2, 3)),
        cache: CacheLayout { link: 0, descriptor: 16, arena: 40, kind: CacheKind::Stacks },
    },
    Layout {
        releases: "5.2",
        arena: Field(0, 12),
        slab: Field(12, 1),
        state: Field(16, 2),
        class: Field(18, 8),
        free: Field(26, 10),
        pointer: 0xffff_ffff_ffc0,
        zero: 0x3e,
        leaf_state: None,
        cache: CacheLayout {
            link: 880,
            descriptor: 920,
            arena: 952,
            kind: CacheKind::Counted { small: 16, large: 1000 },
        },
    },
];

#[cfg(test)]
mod tests {
    use super::{CLASSES, SMALL_CLASSES, class_size};

    #[test]
    fn sizes_of_classes() {
        let first: Vec<u64> = (0..14).map(class_size).collect();
        assert_eq!(first, [8, 16, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320]);
        assert_eq!((class_size(SMALL_CLASSES - 1), class_size(SMALL_CLASSES)), (14 << 10, 16 << 10));
        assert_eq!(class_size(CLASSES - 1), 7 << 60);
    }
}
