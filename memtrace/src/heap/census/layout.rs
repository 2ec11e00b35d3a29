//! How releases of glibc lay out what malloc keeps, as data. All of it is private to malloc/malloc.c and malloc/arena.c and may
//! change with every release: what does not fit in every detail is refused.

use std::ops::Range;

/// Bits of the size word of a chunk (malloc/malloc.c, "Size and other field definitions").
pub(super) const PREV_INUSE: u64 = 1;
pub(super) const IS_MMAPPED: u64 = 2;
pub(super) const NON_MAIN_ARENA: u64 = 4;
pub(super) const FLAGS: u64 = 7;
/// From a chunk to what the program gets (`CHUNK_HDR_SZ`); the smallest chunk (`MINSIZE`); what chunks are multiples of.
pub(super) const HEADER: u64 = 16;
pub(super) const LEAST_CHUNK: u64 = 32;
pub(super) const ALIGNMENT: u64 = 16;
/// Two sizes of this between two parts of an arena are no chunks (`sysmalloc`, "fenceposts").
pub(super) const FENCEPOST: u64 = 16;
/// What a program may use of a chunk reaches into the next one's `mchunk_prev_size` (`memsize`).
pub(super) const OVERLAP: u64 = 8;

/// Heaps of arenas other than the main one are aligned to this, and not larger: `HEAP_MAX_SIZE`, malloc/arena.c, twice
/// `DEFAULT_MMAP_THRESHOLD_MAX`, with addresses of 64 bits.
pub(super) const HEAP_MAX: u64 = 64 << 20;

/// `struct malloc_state`, the same from 2.27 to 2.42: offsets in bytes.
pub(super) mod arena {
    /// In `flags`, behind `mutex`: `NONCONTIGUOUS_BIT`.
    pub(in super::super) const NONCONTIGUOUS: u64 = 2;
    pub(in super::super) const FASTBINS: u64 = 16;
    /// Fast bins: of chunks of 32 bytes, 48, and so on (`NFASTBINS`).
    pub(in super::super) const FASTBIN_COUNT: u64 = 10;
    pub(in super::super) const TOP: u64 = 96;
    pub(in super::super) const BINS: u64 = 112;
    /// Pairs of `fd` and `bk` (`NBINS - 1`).
    pub(in super::super) const BIN_COUNT: u64 = 127;
    pub(in super::super) const NEXT: u64 = 2160;
    pub(in super::super) const ATTACHED_THREADS: u64 = 2176;
    pub(in super::super) const SYSTEM_MEM: u64 = 2184;
    pub(in super::super) const MAX_SYSTEM_MEM: u64 = 2192;
    pub(in super::super) const SIZE: u64 = 2200;
    /// From a chunk to its `fd`; `bk` follows.
    pub(in super::super) const FD: u64 = 16;
}

/// `heap_info` (malloc/arena.c): `ar_ptr`, `prev`, `size`.
pub(super) const HEAP_INFO_WORDS: usize = 3;

/// `struct malloc_par`, `mp_`: offsets in bytes.
#[derive(Debug)]
pub(super) struct ParametersLayout {
    /// `int n_mmaps, n_mmaps_max, max_n_mmaps, no_dyn_threshold` begin here.
    pub(super) counts: u64,
    /// `mmapped_mem, max_mmapped_mem, sbrk_base, tcache_bins, tcache_max_bytes, tcache_count` begin here.
    pub(super) sizes: u64,
    /// What is between `arena_max`, 5 words, and `counts`: `thp_pagesize`, `hp_pagesize`.
    pub(super) pages: Range<u64>,
    /// Bytes up to `tcache_count` inclusive.
    pub(super) size: u64,
}

/// Until 2.34.
static WITHOUT_HUGE_PAGES: ParametersLayout =
    ParametersLayout { counts: 40, sizes: 56, pages: 40..40, size: 104 };
/// From 2.35; `int hp_flags` stands before the counts.
static WITH_HUGE_PAGES: ParametersLayout =
    ParametersLayout { counts: 60, sizes: 80, pages: 40..56, size: 128 };

/// The second word of a block in a thread's cache, `tcache_entry::key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyKind {
    /// The address of the cache that it is in.
    Cache,
    /// A random number of the process.
    Random,
}

/// A layout, and the releases that have it.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) releases: &'static str,
    pub(super) parameters: &'static ParametersLayout,
    /// `sizeof (heap_info)`.
    pub(super) heap_info: u64,
    /// Whether the links of fast bins and caches are XORed with their own address, shifted by 12 (`PROTECT_PTR`).
    pub(super) mangled: bool,
    pub(super) key: KeyKind,
}

/// The layouts known.
pub(super) static LAYOUTS: [Layout; 4] = [
    Layout {
        releases: "2.31",
        parameters: &WITHOUT_HUGE_PAGES,
        heap_info: 32,
        mangled: false,
        key: KeyKind::Cache,
    },
    Layout {
        releases: "2.32 to 2.33",
        parameters: &WITHOUT_HUGE_PAGES,
        heap_info: 32,
        mangled: true,
        key: KeyKind::Cache,
    },
    Layout {
        releases: "2.34",
        parameters: &WITHOUT_HUGE_PAGES,
        heap_info: 32,
        mangled: true,
        key: KeyKind::Random,
    },
    Layout {
        releases: "2.35 to 2.41",
        parameters: &WITH_HUGE_PAGES,
        heap_info: 48,
        mangled: true,
        key: KeyKind::Random,
    },
];

impl Layout {
    /// What a link that was read at `address` leads to.
    #[inline]
    pub(super) fn link(&self, address: u64, word: u64) -> u64 {
        if self.mangled { mangle(address, word) } else { word }
    }
}

/// `PROTECT_PTR`, and its inverse.
pub(super) fn mangle(address: u64, word: u64) -> u64 {
    address >> 12 ^ word
}

/// `tcache_perthread_struct` from 2.30 to 2.41: 64 counts of 16 bits, 64 addresses of first entries.
pub(super) mod cache {
    pub(in super::super) const BINS: usize = 64;
    pub(in super::super) const COUNT_WORDS: usize = 16;
    pub(in super::super) const WORDS: usize = COUNT_WORDS + BINS;
    /// The chunk that holds it; 16 bytes more where less than a chunk would be left (`_int_malloc`).
    pub(in super::super) const CHUNK: u64 = 0x290;
    pub(in super::super) const LARGER_CHUNK: u64 = 0x2a0;
    /// From an entry, which is what the program had, to its key.
    pub(in super::super) const KEY: u64 = 8;
}

/// What a program's address may be.
pub(super) fn is_address(word: u64) -> bool {
    (PAGE..1 << 48).contains(&word)
}
const PAGE: u64 = 4096;

/// Whether a word may be the address of a chunk or of what is in it.
pub(super) fn is_chunk_address(word: u64) -> bool {
    is_address(word) && word.is_multiple_of(ALIGNMENT)
}
