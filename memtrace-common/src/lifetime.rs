//! Lifetimes of freed blocks: a histogram per stack, by powers of two.

/// Classes of lifetimes.
pub const LIFETIME_CLASSES: usize = 16;

/// The unit of lifetimes is `1 << LIFETIME_SHIFT` units of block time, 33.6 ms: shorter ones tell nothing about leaks.
pub const LIFETIME_SHIFT: u32 = 3;

/// A counter ends here: only ratios of them matter, and 32 bits would wrap.
pub const LIFETIME_FULL: u32 = 1 << 31;

/// Lifetimes of a stack's freed blocks: a cache line of the array `LIFETIMES`, at the index of the stack's slot.
///
/// Blocks are counted, not what they stand for: samples are what evidence rests on.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifetimes {
    /// Blocks freed, by [`lifetime_class`].
    pub blocks: [u32; LIFETIME_CLASSES],
}
const _: () = assert!(size_of::<Lifetimes>() == 64);

/// The class of a lifetime in units of block time: 0 for less than 33.6 ms, class k for less than 2^k times that, and the
/// last for everything from 9.2 min on.
#[inline(always)]
#[must_use]
pub const fn lifetime_class(ticks: u32) -> usize {
    let mut rest = ticks >> LIFETIME_SHIFT;
    if rest == 0 {
        return 0;
    }
    // The kernel side has no instruction for the number of leading zeros.
    if rest >> (LIFETIME_CLASSES - 2) != 0 {
        return LIFETIME_CLASSES - 1;
    }
    let mut class = 1;
    if rest >= 1 << 8 {
        rest >>= 8;
        class += 8;
    }
    if rest >= 1 << 4 {
        rest >>= 4;
        class += 4;
    }
    if rest >= 1 << 2 {
        rest >>= 2;
        class += 2;
    }
    if rest >= 2 { class + 1 } else { class }
}

/// Where a class begins, in units of block time.
#[must_use]
pub const fn lifetime_class_begin(class: usize) -> u32 {
    if class == 0 { 0 } else { 1 << (LIFETIME_SHIFT as usize + class - 1) }
}

#[cfg(test)]
mod tests {
    use super::{LIFETIME_CLASSES, lifetime_class, lifetime_class_begin};

    #[test]
    fn classes_begin_where_they_should() {
        for class in 1..LIFETIME_CLASSES {
            let begin = lifetime_class_begin(class);
            assert_eq!((lifetime_class(begin - 1), lifetime_class(begin)), (class - 1, class), "{begin}");
        }
        assert_eq!((lifetime_class(0), lifetime_class(u32::MAX)), (0, LIFETIME_CLASSES - 1));
    }
}
