//! Where code is in a target, and which unwind rows belong to it.

/// A range of executable memory in one target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Module {
    /// First address.
    pub begin: u64,
    /// Address after the last.
    pub end: u64,
    /// What to subtract from an address to get a row's `pc`.
    pub bias: u64,
    /// Index of the first row; [`Module::JIT`] or [`Module::NO_TABLE`] where there are none.
    pub first: u32,
    /// Number of rows.
    pub rows: u32,
}
const _: () = assert!(size_of::<Module>() == 32);

impl Module {
    /// Anonymous memory: code made at run time, which is walked by frame pointer.
    pub const JIT: u32 = u32::MAX;
    /// A file without a usable table.
    pub const NO_TABLE: u32 = u32::MAX - 1;
}

/// A target's modules: where they begin in the array of modules, how many there are, and a number that changes
/// with them. One word, so that a program never sees half of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModuleList(pub u64);

impl ModuleList {
    /// Packs a list's place.
    #[must_use]
    pub const fn new(first: u32, count: u16, epoch: u16) -> Self {
        Self(first as u64 | (count as u64) << 32 | (epoch as u64) << 48)
    }

    /// Index of the first module.
    #[inline(always)]
    #[must_use]
    pub const fn first(self) -> u32 {
        self.0 as u32
    }

    /// Number of modules.
    #[inline(always)]
    #[must_use]
    pub const fn count(self) -> u32 {
        (self.0 >> 32) as u32 & 0xffff
    }

    /// The number that changes with the list.
    #[inline(always)]
    #[must_use]
    pub const fn epoch(self) -> u64 {
        self.0 >> 48
    }
}

/// An entry of the rule cache. The key is an address times an odd constant modulo 2^47 (2^48 on aarch64), a bijection:
/// index (13 bits, 14 on aarch64; into the target's part of the cache) and tag (34 bits) together identify exactly one
/// address. Above the 28 bits of the rule are two of the epoch, so that an entry added late, by a program that still saw
/// the old modules, does not match.
pub mod cache {
    use crate::stack::mix;

    /// Entries per target.
    pub const SIZE: u32 = 1 << (ADDRESS_BITS - TAG_BITS);
    /// Targets that have a part of the cache; others have none.
    pub const TARGETS: u32 = 16;
    /// Bits of a user address: the agent takes the machine from its own target, the kernel side from a `cfg`.
    const ADDRESS_BITS: u32 =
        if cfg!(any(target_arch = "aarch64", bpf_target_arch = "aarch64")) { 48 } else { 47 };
    const TAG_BITS: u32 = 34;
    const TAG: u64 = (1 << TAG_BITS) - 1;
    const RULE: u64 = (1 << 28) - 1;

    /// Index in the target's part, and the entry's upper 36 bits in place.
    #[inline(always)]
    #[must_use]
    pub const fn key(address: u64, epoch: u64) -> (u32, u64) {
        key_of::<ADDRESS_BITS>(address, epoch)
    }

    #[inline(always)]
    pub(super) const fn key_of<const BITS: u32>(address: u64, epoch: u64) -> (u32, u64) {
        let mask = (1 << BITS) - 1;
        let hash = mix(address & mask) & mask;
        ((hash >> TAG_BITS) as u32, (hash & TAG) << 30 | (epoch & 3) << 28)
    }

    /// The rule in an entry, if it is the one of `key`.
    #[inline(always)]
    #[must_use]
    pub const fn rule(entry: u64, key: u64) -> Option<u64> {
        if entry & !RULE == key { Some(entry & RULE) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::{ModuleList, cache};

    #[test]
    fn a_list_comes_back() {
        let list = ModuleList::new(70_000, 300, 65_535);
        assert_eq!((list.first(), list.count(), list.epoch()), (70_000, 300, 65_535));
    }

    #[test]
    fn index_and_tag_tell_every_address_apart() {
        let mut seen = std::collections::HashSet::new();
        for address in (0..1 << 18).map(|n| 0x7f00_0000_0000 + n * 3) {
            assert!(seen.insert(cache::key(address, 0)));
        }
        let (_, key) = cache::key(0x7f12_3456_789a, 1);
        assert_eq!(cache::rule(key | 0xabc_def0, key), Some(0xabc_def0));
        let (_, later) = cache::key(0x7f12_3456_789a, 2);
        assert_eq!(cache::rule(key | 5, later), None);
    }

    #[test]
    fn the_upper_bit_of_an_address_counts_where_addresses_have_48() {
        for address in (0..1 << 18).map(|n| 0x7f00_0000_0000 + n * 3) {
            let (low, high) = (cache::key_of::<48>(address, 0), cache::key_of::<48>(address | 1 << 47, 0));
            assert_ne!(low, high);
            assert!(low.0 < 1 << 14 && high.0 < 1 << 14);
        }
    }
}
