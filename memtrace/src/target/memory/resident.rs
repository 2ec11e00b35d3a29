//! How much of some address ranges is in memory.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::pages::{Found, Pages, Wanted};
use crate::target::threads;

/// Bytes of each range of process `pid` that are its own (neither a file's nor shared) and present or swapped out, in their order; `None` if it is gone, the kernel
/// does not tell, or `limit` has passed. Nothing is touched. The lock on the process's mappings is held for about 1 ms at a
/// time.
#[must_use]
pub fn resident(pid: u32, ranges: &[Range<u64>], limit: Duration) -> Option<Vec<u64>> {
    let end = Instant::now() + limit;
    let mut pages = Pages::open(threads::living(pid)?).ok()?;
    let mut found = Found::default();
    let mut sums = Vec::with_capacity(ranges.len());
    for range in ranges {
        let mut at = range.start;
        let mut bytes = 0_u64;
        while at < range.end {
            if Instant::now() >= end {
                return None;
            }
            pages.find(at..range.end, Wanted::Modified, &mut found).ok()?;
            let runs = found.runs.iter().map(|run| run.end - run.start);
            bytes = bytes.saturating_add(runs.sum::<u64>()).saturating_add(found.swapped);
            at = found.range.end.max(at + 1);
        }
        sums.push(bytes);
    }
    Some(sums)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::resident;

    #[test]
    fn what_is_reserved_is_not_used() {
        const LENGTH: usize = 64 << 20;
        const TOUCHED: usize = 3 << 20;
        // SAFETY: a new mapping, of which a part is written to.
        let start = unsafe {
            let start = libc::mmap(
                std::ptr::null_mut(),
                LENGTH,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            assert_ne!(start, libc::MAP_FAILED);
            libc::madvise(start, LENGTH, libc::MADV_NOHUGEPAGE);
            start.cast::<u8>().write_bytes(1, TOUCHED);
            start.expose_provenance() as u64
        };
        let range = start..start + LENGTH as u64;
        let limit = Duration::from_secs(60);
        let found = resident(std::process::id(), &[range.clone(), range.end..range.end], limit);
        // SAFETY: the mapping from above, which nothing uses any more.
        unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(start as usize), LENGTH) };
        assert_eq!(found, Some(vec![TOUCHED as u64, 0]));
        assert_eq!(resident(std::process::id(), &[range], Duration::ZERO), None);
        assert_eq!(resident(u32::MAX - 1, &[], limit), None);
    }
}
