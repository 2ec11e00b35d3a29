//! The table of live blocks: an array of buckets of seven blocks each, and a hash map for what overflows.
//!
//! A block is found by its key in one cache line, without a helper call; the agent maps the array and reads
//! blocks without a system call each.

use crate::{sampling::Sample, stack::mix};

/// Blocks a bucket holds before the next one goes to the overflow map.
pub const BLOCKS_PER_BUCKET: usize = 7;

/// What is known of a live block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Block {
    /// Size in bytes, as requested, and how it came to be counted.
    pub sample: Sample,
    /// Index of the allocating stack's slot.
    pub stack: u32,
    /// When it was allocated, in units of `1 << TIME_SHIFT` ns since `EPOCH`.
    pub time: u32,
}
const _: () = assert!(size_of::<Block>() == 16);

/// Seven blocks. Keys share a cache line.
///
/// A key is 0 (free), [`live_key`] (even: a block), or that plus 1 (a block that is being written).
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// Blocks of this bucket that live in the overflow map.
    pub overflowed: u64,
    /// Keys.
    pub keys: [u64; BLOCKS_PER_BUCKET],
    /// The blocks; the eighth only fills the third cache line.
    pub blocks: [Block; BLOCKS_PER_BUCKET + 1],
}
const _: () = assert!(size_of::<Bucket>() == 192);

/// The key of the block at `address` in a target: the low bit is left for the writer's claim.
///
/// User addresses have 47 bits on `x86_64` and 48 on aarch64 (a program gets more only by asking for it with an
/// address hint); the upper 16 hold the target's index and the low 8 bits of its generation. The agent clears blocks of
/// earlier generations after each `execve` that it sees; if it missed 256, a block's stack identifies the program.
#[inline(always)]
#[must_use]
pub const fn live_key(address: u64, target: u32) -> u64 {
    (address & 0xffff_ffff_fffe) | (target as u64 & 0xff) << 48 | (target as u64 >> 8 & 0xff) << 56
}

/// The address in a key.
#[inline(always)]
#[must_use]
pub const fn live_address(key: u64) -> u64 {
    key & 0xffff_ffff_ffff
}

/// The index of the target in a key.
#[inline(always)]
#[must_use]
pub const fn live_target(key: u64) -> u32 {
    (key >> 48) as u32 & 0xff
}

/// Whether a key may be of a block of that generation of its target: the low 8 bits agree.
#[inline(always)]
#[must_use]
pub const fn is_of_generation(key: u64, generation: u32) -> bool {
    (key >> 56) as u32 == generation & 0xff
}

/// The bucket of a key. Neighbouring blocks stay close (the allocator reuses what is near), and the mixed
/// upper bits spread arenas over the table: a weaker hash sent 20 % of blocks to the overflow map.
#[inline(always)]
#[must_use]
pub const fn bucket_index(key: u64, mask: u32) -> u32 {
    ((key >> 6) ^ (mix(key >> 16) >> 40)) as u32 & mask
}

#[cfg(test)]
mod tests {
    use super::{bucket_index, is_of_generation, live_key, live_target};

    #[test]
    fn keys_of_two_targets_and_two_generations_differ() {
        let address = 0x7fff_1234_5670;
        let keys = [live_key(address, 0), live_key(address, 1), live_key(address, 1 << 8)];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        assert!(keys.iter().all(|key| key & 1 == 0));
        assert_eq!(keys.map(live_target), [0, 1, 0]);
        assert_eq!(keys.map(|key| is_of_generation(key, 0)), [true, true, false]);
        assert!(is_of_generation(keys[2], 257));
    }

    #[test]
    fn equal_blocks_in_a_row_fill_buckets_evenly() {
        let mask = (1 << 12) - 1;
        let mut load = [0u32; 1 << 12];
        for block in 0..4096 * 4 {
            load[bucket_index(live_key(0x5555_0000_0000 + block * 112, 0), mask) as usize] += 1;
        }
        let overflowing: u32 = load.iter().map(|&n| n.saturating_sub(7)).sum();
        assert!(overflowing < 4096 * 4 / 20, "{overflowing} of {} overflow", 4096 * 4);
    }
}
