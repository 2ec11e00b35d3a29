//! Memory that is certainly the allocator's, by its place: what glibc's heaps have in memory.

use std::{ops::Range, time::Duration};

use crate::target::{memory, threads};

/// `HEAP_MAX_SIZE` (malloc/arena.c): heaps of glibc's arenas begin at multiples of it and are no larger.
const ARENA: u64 = 64 << 20;
/// Names that allocators give to their mappings: `prctl(PR_SET_VMA_ANON_NAME)`, from Linux 5.17.
const NAMES: [&str; 3] = ["malloc", "jemalloc", "mimalloc"];

/// Resident bytes of heaps of process `pid`; `None` if that takes longer than `limit`. `mapped`: what the process mapped
/// itself, by address.
pub(super) fn resident(pid: u32, mapped: &[Range<u64>], limit: Duration) -> Option<u64> {
    let regions = memory::regions(threads::living(pid)?).ok()?;
    let heaps: Vec<Range<u64>> =
        regions.into_iter().filter(|region| is_heap(region, mapped)).map(|region| region.range).collect();
    let found = memory::resident(pid, &heaps, limit)?;
    Some(found.iter().sum())
}

fn is_heap(region: &memory::Region, mapped: &[Range<u64>]) -> bool {
    let range = &region.range;
    match region.kind {
        memory::Kind::Heap => true,
        memory::Kind::Anonymous if region.name.starts_with("[anon:") => {
            NAMES.iter().any(|name| region.name.contains(name))
        }
        memory::Kind::Anonymous => {
            let at = mapped.partition_point(|own| own.end <= range.start);
            let is_own = mapped.get(at).is_some_and(|own| own.start < range.end);
            range.start.is_multiple_of(ARENA) && range.end - range.start <= ARENA && !is_own
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{ARENA, is_heap};
    use crate::target::memory::{Kind, Region};

    fn region(kind: Kind, start: u64, length: u64, name: &str) -> Region {
        Region {
            range: start..start + length,
            offset: 0,
            inode: (0, 0),
            name: name.into(),
            writable: true,
            shared: false,
            kind,
            follows_guard: false,
        }
    }

    #[test]
    fn heaps_are_told_by_place_and_name() {
        let aligned = region(Kind::Anonymous, 7 * ARENA, 4096, "");
        assert!(is_heap(&region(Kind::Heap, 4096, 4096, "[heap]"), &[]));
        assert!(is_heap(&aligned, &[]));
        assert!(is_heap(&region(Kind::Anonymous, 4096, 4096, "[anon: glibc: malloc arena]"), &[]));
        assert!(!is_heap(&region(Kind::Anonymous, 7 * ARENA, 4096, "[anon:stack]"), &[]));
        assert!(!is_heap(&region(Kind::Anonymous, 7 * ARENA, 2 * ARENA, ""), &[]));
        assert!(!is_heap(&region(Kind::Anonymous, 7 * ARENA + 4096, 4096, ""), &[]));
        assert!(!is_heap(&region(Kind::FilePrivate, 7 * ARENA, 4096, "/lib/libc.so.6"), &[]));
        let before = 6 * ARENA..6 * ARENA + 4096;
        assert!(is_heap(&aligned, std::slice::from_ref(&before)));
        assert!(!is_heap(&aligned, &[before, aligned.range.clone()]));
    }
}
