//! Sampling: an allocation is counted with a probability that grows with its size, and what is counted stands for
//! the rest.
//!
//! This is Poisson sampling with probability proportional to size (Hájek 1964): each allocation is drawn independently,
//! with the probability `size / mean`, at most 1. The Horvitz-Thompson estimator weighs what was drawn with the
//! inverse and is unbiased for any set of blocks; its variance can be estimated from the blocks drawn. A countdown of
//! bytes would need state per CPU and give every block a larger variance.

/// Blocks are summed in units of 1 / 256: a block that was drawn stands for a fraction of blocks too.
pub const BLOCK_UNIT: u64 = 256;

/// A block's size, and the probability with which it was counted: size in the lower 56 bits, [`Shift`] in the upper 8.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample(pub u64);

/// The binary logarithm of the mean number of bytes between two samples.
pub type Shift = u64;

/// Every allocation is counted.
pub const EXACT: Shift = 0;
/// The largest mean: 1 GiB.
pub const MAX_SHIFT: Shift = 30;
/// No allocation is recorded, only the calls are counted.
pub const NOTHING: Shift = 0xff;

const SIZE_BITS: u32 = 56;

/// Smaller blocks are drawn as if they had this many bytes: otherwise a block of one byte that happens to be drawn stands
/// for half a million, and dominates an estimate of blocks. The binary logarithm: 32 bytes.
const LEAST_SHIFT: Shift = 5;

impl Sample {
    /// Packs a size and a shift. Sizes of 2^56 and more cannot be allocated: they become the largest below, so that none
    /// is mistaken for 0, with which `realloc` frees.
    #[inline(always)]
    #[must_use]
    pub const fn new(size: u64, shift: Shift) -> Self {
        let size = if size >> SIZE_BITS == 0 { size } else { (1 << SIZE_BITS) - 1 };
        Self(size | shift << SIZE_BITS)
    }

    /// The size in bytes, as requested.
    #[inline(always)]
    #[must_use]
    pub const fn size(self) -> u64 {
        self.0 & ((1 << SIZE_BITS) - 1)
    }

    /// The mean that was drawn with; [`NOTHING`]: the block is not recorded.
    #[inline(always)]
    #[must_use]
    pub const fn shift(self) -> Shift {
        self.0 >> SIZE_BITS
    }

    /// What the probability is taken from.
    #[inline(always)]
    #[must_use]
    pub const fn basis(self) -> u64 {
        if self.size() >> LEAST_SHIFT == 0 { 1 << LEAST_SHIFT } else { self.size() }
    }

    /// Whether it was counted for sure.
    #[inline(always)]
    #[must_use]
    pub const fn is_certain(self) -> bool {
        self.basis() >> self.shift() != 0
    }

    /// Bytes that it stands for.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u64 {
        if self.is_certain() {
            self.size()
        } else if self.size() >> LEAST_SHIFT == 0 {
            self.size() << self.shift() >> LEAST_SHIFT
        } else {
            1 << self.shift()
        }
    }

    /// Blocks that it stands for, in units of 1 / [`BLOCK_UNIT`].
    #[inline(always)]
    #[must_use]
    pub const fn blocks(self) -> u64 {
        if self.is_certain() {
            return BLOCK_UNIT;
        }
        // Never of 0, which LLVM does not always see.
        match ((BLOCK_UNIT << self.shift()) + self.basis() / 2).checked_div(self.basis()) {
            Some(blocks) => blocks,
            None => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK_UNIT, EXACT, MAX_SHIFT, Sample};

    #[test]
    fn exact_blocks_stand_for_themselves() {
        for size in [0, 1, 4096, 1 << 40] {
            let sample = Sample::new(size, EXACT);
            assert_eq!((sample.size(), sample.bytes(), sample.blocks()), (size, size, BLOCK_UNIT));
        }
    }

    #[test]
    fn sizes_that_cannot_be_had_are_not_nothing() {
        for size in [1 << 56, 1 << 63, (1 << 60) + 5, u64::MAX] {
            let sample = Sample::new(size, 19);
            assert_eq!((sample.size(), sample.shift()), ((1 << 56) - 1, 19), "{size:#x}");
        }
    }

    #[test]
    fn the_estimate_is_unbiased() {
        // The expected estimate: weight times probability.
        for shift in [1, 9, 19, MAX_SHIFT] {
            for size in [1, 3, 24, 64, 1000, 100_000, 1 << 19, (1 << 30) + 1] {
                let sample = Sample::new(size, shift);
                let probability = (size.max(32) as f64 / (1u64 << shift) as f64).min(1.0);
                let bytes = sample.bytes() as f64 * probability;
                let blocks = sample.blocks() as f64 * probability / BLOCK_UNIT as f64;
                assert!((bytes / size as f64 - 1.0).abs() < 1e-9, "{size} at {shift}: {bytes}");
                assert!((blocks - 1.0).abs() < 2e-3, "{size} at {shift}: {blocks}");
            }
        }
    }

    #[test]
    fn large_blocks_are_certain() {
        assert!(Sample::new(1 << 19, 19).is_certain() && !Sample::new((1 << 19) - 1, 19).is_certain());
        assert!(!Sample::new(0, 19).is_certain() && Sample::new(1, 5).is_certain());
        // A block of nothing is one block.
        assert_eq!((Sample::new(0, 19).bytes(), Sample::new(0, 19).blocks()), (0, BLOCK_UNIT << 14));
    }
}
