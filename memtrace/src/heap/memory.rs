//! What a scan reads.

use std::ops::Range;

/// The memory of a process, as far as it may hold pointers.
pub trait Memory {
    /// The next part to read that begins at `from` or later: at most 1 MiB, with ends that are multiples of 8. `None`:
    /// there are no more, or the scan is to end.
    fn next(&mut self, from: u64) -> Option<Range<u64>>;

    /// Reads the words from `address` on. Returns how many of them were read; the rest is not there, or no longer.
    fn read(&mut self, address: u64, words: &mut [u64]) -> usize;
}
