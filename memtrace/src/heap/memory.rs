//! What a scan reads.

use std::ops::Range;

/// What memory is where no block is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Between {
    /// Anything: its words are roots.
    Roots,
    /// Memory of an allocator, all of whose blocks are known, with all that belongs to them: it is free.
    Free,
    /// Memory of glibc's allocator, all of whose blocks are known by the sizes that were asked for: it is free, or what the
    /// size of a block was rounded up by, which belongs to the block.
    Rounded,
    /// Data of glibc. Its allocator's pointers to free chunks are among them: a chunk begins at the last 8 bytes of the block
    /// before, if that uses them.
    Chunks,
}

/// The memory of a process, as far as it may hold pointers.
pub trait Memory {
    /// The next part to read that begins at `from` or later: at most 1 MiB, with ends that are multiples of 8. `None`:
    /// there are no more, or the scan is to end.
    fn next(&mut self, from: u64) -> Option<Range<u64>>;

    /// Reads the words from `address` on. Returns how many of them were read; the rest is not there, or no longer.
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize;

    /// What the memory of a part is, in which no block is known.
    fn between(&mut self, part: &Range<u64>) -> Between;
}
