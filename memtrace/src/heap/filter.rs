//! The words of memory that may point to blocks.

use super::directory::ADDRESS;

/// Words that are compared with the range of addresses at a time, without a branch.
const TOGETHER: usize = 8;
/// Of an address, the bits above these are compared: 32 are left.
const COARSE: u32 = 16;

/// Which words may be addresses in blocks, by the upper half of the address: others are the most, and cost least.
#[derive(Clone, Copy)]
pub(super) struct Filter {
    low: u32,
    span: u32,
}

impl Filter {
    /// For blocks in that range, and so far around it.
    pub(super) fn new((low, high): (u64, u64), around: u64) -> Self {
        let first = (low & ADDRESS).saturating_sub(around);
        let last = (high.saturating_sub(1) & ADDRESS).saturating_add(around).min(ADDRESS);
        let (low, last) = (first >> COARSE, last >> COARSE);
        Self { low: low as u32, span: last.saturating_sub(low) as u32 }
    }

    #[inline]
    fn passes(self, word: u64) -> bool {
        ((word >> COARSE) as u32).wrapping_sub(self.low) <= self.span
    }

    /// Writes the places of the words that pass to `found`.
    pub(super) fn find(self, words: &[u64], found: &mut Vec<u32>) {
        found.clear();
        let (groups, rest) = words.as_chunks::<TOGETHER>();
        for (group, first) in groups.iter().zip((0u32..).step_by(TOGETHER)) {
            if !group.iter().fold(false, |any, &word| any | self.passes(word)) {
                continue;
            }
            let passed = group.map(|word| u8::from(self.passes(word)));
            let mut passed = u64::from_le_bytes(passed);
            while passed != 0 {
                found.push(first + passed.trailing_zeros() / u8::BITS);
                passed &= passed - 1;
            }
        }
        let first = words.len() - rest.len();
        let rest = rest.iter().zip(first as u32..).filter(|(word, _)| self.passes(**word));
        found.extend(rest.map(|(_, place)| place));
    }
}
