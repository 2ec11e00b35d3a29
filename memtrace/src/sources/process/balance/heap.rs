//! Memory that is certainly the allocator's, by its place: what glibc's heaps have in memory. And memory that was there before
//! tracing began, which may be used only now.

use std::{cmp::Reverse, ops::Range, time::Duration};

use crate::target::{memory, threads};

/// `HEAP_MAX_SIZE` (malloc/arena.c): heaps of glibc's arenas begin at multiples of it and are no larger.
const ARENA: u64 = 64 << 20;
/// Names that allocators give to their mappings: `prctl(PR_SET_VMA_ANON_NAME)`, from Linux 5.17.
const NAMES: [&str; 3] = ["malloc", "jemalloc", "mimalloc"];

/// Other memory from before, and what it gains, is worth a look from this size on, of so many regions.
const RESERVED: u64 = 1 << 20;
const MOST: usize = 256;

/// Resident bytes of heaps of process `pid`; `None` if that takes longer than `limit`. `mapped`: what the process mapped
/// itself, by address.
pub(super) fn resident(pid: u32, mapped: &[Range<u64>], limit: Duration) -> Option<u64> {
    let regions = memory::regions(threads::living(pid)?).ok()?;
    let heaps: Vec<Range<u64>> =
        regions.into_iter().filter(|region| is_heap(region, mapped)).map(|region| region.range).collect();
    let found = memory::resident(pid, &heaps, limit)?;
    Some(found.iter().sum())
}

/// Large regions of process `pid` without a file that are no heaps, and the resident bytes of each; `None` if that takes longer
/// than `limit`.
pub(super) fn others(pid: u32, limit: Duration) -> Option<Vec<(Range<u64>, u64)>> {
    let regions = memory::regions(threads::living(pid)?).ok()?;
    let is_other = |region: &memory::Region| {
        let is_private = matches!(region.kind, memory::Kind::Anonymous | memory::Kind::Hidden);
        is_private && region.inode == (0, 0) && !is_heap(region, &[])
    };
    let others = regions.into_iter().filter(is_other).map(|region| region.range);
    let mut others: Vec<Range<u64>> = others.filter(|range| range.end - range.start >= RESERVED).collect();
    others.sort_by_key(|range| Reverse(range.end - range.start));
    others.truncate(MOST);
    let found = memory::resident(pid, &others, limit)?;
    Some(others.into_iter().zip(found).collect())
}

/// What those regions have gained, without what became a heap or was mapped anew; `None` if that takes longer than `limit`.
pub(super) fn filled(
    pid: u32,
    before: &[(Range<u64>, u64)],
    mapped: &[Range<u64>],
    limit: Duration,
) -> Option<u64> {
    let mut regions = memory::regions(threads::living(pid)?).ok()?;
    regions.retain(|region| is_heap(region, mapped));
    let meet = |one: &Range<u64>, other: &Range<u64>| one.start < other.end && other.start < one.end;
    let is_same = |range: &Range<u64>| {
        !mapped.iter().chain(regions.iter().map(|heap| &heap.range)).any(|other| meet(range, other))
    };
    let (ranges, first): (Vec<_>, Vec<_>) =
        before.iter().filter(|(range, _)| is_same(range)).cloned().unzip();
    let now = memory::resident(pid, &ranges, limit)?;
    let gained: u64 = now.into_iter().zip(first).map(|(now, first)| now.saturating_sub(first)).sum();
    // A few pages are a thread's stack, which is deeper now.
    Some(if gained < RESERVED { 0 } else { gained })
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
    use std::{num::NonZeroUsize, time::Duration};

    use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, mprotect};

    use super::{ARENA, filled, is_heap, others};
    use crate::target::memory::{Kind, Region};

    #[test]
    fn memory_from_before_that_is_used_later_is_found() {
        const SIZE: usize = 64 << 20;
        const GUARD: usize = 1 << 16;
        let (pid, limit) = (std::process::id(), Duration::from_secs(60));
        let length = NonZeroUsize::new(SIZE + 2 * GUARD).unwrap();
        let (flags, write) = (MapFlags::MAP_PRIVATE, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE);
        // Guards keep it apart from what other threads map beside it.
        // SAFETY: new memory, of which the part between the guards is made accessible.
        let reserved = unsafe {
            let whole = mmap_anonymous(None, length, ProtFlags::PROT_NONE, flags).unwrap();
            let inner = whole.byte_add(GUARD);
            mprotect(inner, SIZE, write).unwrap();
            std::slice::from_raw_parts_mut(inner.cast::<u8>().as_ptr(), SIZE)
        };
        let before = others(pid, limit).unwrap();
        reserved.fill(1);
        assert!(filled(pid, &before, &[], limit).unwrap() >= SIZE as u64);
        // Mapped anew meanwhile. Other threads use some memory too.
        let start = reserved.as_ptr() as u64;
        let anew = start..start + SIZE as u64;
        let found = filled(pid, &before, std::slice::from_ref(&anew), limit).unwrap();
        assert!(found < SIZE as u64, "{found}");
    }

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
