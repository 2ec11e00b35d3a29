//! What a census found.

use std::ops::Range;

/// Blocks, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub blocks: u64,
    /// Bytes; of free blocks with what the allocator needs itself.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.blocks += 1;
        self.bytes += bytes;
    }
}

/// A block that the program has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What the allocator gave to the program.
    pub address: u64,
    /// Bytes that the program may use, as `malloc_usable_size` says.
    pub size: u64,
}

/// Whose heap it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allocator {
    /// The C library's.
    Glibc,
    /// jemalloc.
    Jemalloc,
}

/// What is in an arena.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arena {
    /// The address of its `malloc_state`; of jemalloc 0.
    pub address: u64,
    /// Whether it is the one that grows by `brk`; of jemalloc the first one.
    pub is_main: bool,
    /// Its heaps, or other contiguous parts; of jemalloc extents.
    pub heaps: u64,
    /// What the program has; the bytes are those that it may use.
    pub in_use: Amount,
    /// Free blocks in bins: merged with their neighbours, given to anyone. Of jemalloc those in slabs.
    pub in_bins: Amount,
    /// Free blocks in fast bins.
    pub in_fastbins: Amount,
    /// Free blocks in the caches of threads.
    pub in_caches: Amount,
    /// Free bytes of the top chunk, behind all others.
    pub top: u64,
    /// Bytes of free extents of jemalloc that it has not yet given back to the kernel.
    pub dirty: u64,
    /// The same of those that the kernel may take when it needs memory.
    pub muzzy: u64,
    /// Bytes of address space that jemalloc keeps, whose memory it has given back.
    pub retained: u64,
    /// Bytes of free blocks in bins, of the top chunk, or of free extents that are not retained, whose pages are not in memory: never used, or given back.
    pub absent: u64,
    /// Bytes of free blocks that `malloc_trim`, or a purge of jemalloc's, would give back to the kernel: whole pages in memory. The first leaves the top chunk of
    /// arenas other than the main one as it is.
    pub trimmable: u64,
    /// Bytes that the arena has from the kernel, by its own account.
    pub system: u64,
    /// The same as found.
    pub found: u64,
}

impl Arena {
    /// Bytes that are free, without what is in caches, as `mallinfo2` counts.
    #[cfg(test)]
    pub fn free_bytes(&self) -> u64 {
        self.in_bins.bytes + self.in_fastbins.bytes + self.top
    }
}

/// What could not be walked or does not add up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Missed {
    /// Bytes that are no chunks in sequence, and how often there were such.
    pub skipped: u64,
    /// How often chunks were found again after such bytes.
    pub resumed: u64,
    /// Bytes at the ends of heaps that could not be walked, or were not for lack of time.
    pub left: u64,
    /// Arenas of which not all heaps were found.
    pub arenas: u64,
    /// Bytes by which arenas differ from what they say of themselves, in sum: `brk` that failed, or memory that another user
    /// of `brk` has between the allocator's.
    pub unexplained: u64,
    /// Lists of free blocks that did not end, or led out of their arena. What is on them may be taken as in use.
    pub lists: u64,
    /// Blocks marked as being in a thread's cache, but in none that was found. Taken as in use.
    pub uncached: u64,
    /// Mappings of their own that were not found, or are too many.
    pub mapped: u64,
    /// The same in bytes.
    pub mapped_bytes: u64,
    /// Other C libraries in the process that have blocks.
    pub libraries: u64,
    /// Headers that made sense when they were read again: no loss.
    pub read_again: u64,
}

impl Missed {
    /// Whether all arenas were found and walked, without a gap.
    #[must_use]
    pub fn is_walked(&self) -> bool {
        self.skipped + self.left + self.arenas + self.libraries + self.lists == 0
    }

    /// Whether the census is whole and consistent.
    #[cfg(test)]
    pub fn is_nothing(&self) -> bool {
        *self == Self { read_again: self.read_again, uncached: self.uncached, ..Self::default() }
    }
}

/// What a census found besides the blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Census {
    /// Whose heap it is.
    pub allocator: Allocator,
    /// The allocator's releases that have this layout.
    pub releases: &'static str,
    /// The arenas, the main one first.
    pub arenas: Vec<Arena>,
    /// Blocks in use that are mappings of their own; the bytes are those of the mappings.
    pub mapped: Amount,
    /// Blocks that the allocator has made for itself, and in which nothing is the program's: stacks of caches.
    pub internal: Amount,
    /// Threads' caches with blocks in them.
    pub caches: u64,
    /// The allocator's own memory, in order: what is in no block there is free, or what the allocator needs itself.
    pub own: Vec<Range<u64>>,
    /// What could not be walked or does not add up.
    pub missed: Missed,
}

/// Why there is no census.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The process has no heap of this allocator.
    #[error("no heap of glibc or jemalloc was found")]
    NoHeap,
    /// An arena was found, but what belongs to it was not: maybe another release.
    #[error("the heap is not laid out as glibc 2.31 to 2.41 does: {0}")]
    Unknown(&'static str),
    /// A tree of jemalloc's was found, but what it leads to was not understood.
    #[error("the heap is not laid out as jemalloc 5.2 to 5.3 does: {0}")]
    OtherJemalloc(&'static str),
}
