//! Memory of the test's own process, to look at.

use std::{
    fs::File,
    ops::Range,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    ptr,
};

use super::super::{Region, regions};

const READ_WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;

/// Bytes of a page.
pub(super) fn page() -> usize {
    // SAFETY: it has no preconditions.
    usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap()
}

/// A mapping of whole pages, unmapped at the end.
pub(super) struct Mapped {
    pub(super) start: *mut u8,
    pub(super) pages: usize,
}

// SAFETY: the pointer is an address; the kernel orders what threads do to the mapping.
unsafe impl Sync for Mapped {}

impl Mapped {
    pub(super) fn new(pages: usize, flags: i32, file: Option<&File>) -> Self {
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        // SAFETY: a new mapping at an address that the kernel chooses.
        let start = unsafe { libc::mmap(ptr::null_mut(), pages * page(), READ_WRITE, flags, fd, 0) };
        assert_ne!(start, libc::MAP_FAILED);
        // Of a huge page all would be present, and a neighbour without this setting cannot become part of the mapping.
        // SAFETY: it was just made.
        unsafe { libc::madvise(start, pages * page(), libc::MADV_NOHUGEPAGE) };
        Self { start: start.cast(), pages }
    }

    pub(super) fn anonymous(pages: usize) -> Self {
        Self::new(pages, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, None)
    }

    pub(super) fn address(&self, index: usize) -> u64 {
        (self.start.addr() + index * page()) as u64
    }

    pub(super) fn range(&self, pages: Range<usize>) -> Range<u64> {
        self.address(pages.start)..self.address(pages.end)
    }

    pub(super) fn write(&self, pages: Range<usize>) {
        for index in pages {
            // SAFETY: within the mapping, and aligned.
            unsafe { self.start.add(index * page()).cast::<u64>().write_volatile(index as u64 + 1) };
        }
    }

    pub(super) fn read(&self, index: usize) {
        // SAFETY: within the mapping.
        unsafe { self.start.add(index * page()).read_volatile() };
    }

    /// Replaces pages by memory that nobody may access. Other threads cannot map something else there meanwhile.
    pub(super) fn forbid(&self, pages: Range<usize>) {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let start = self.start.wrapping_add(pages.start * page()).cast();
        // SAFETY: within the mapping, which nothing refers to.
        let start = unsafe { libc::mmap(start, pages.len() * page(), libc::PROT_NONE, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED);
    }

    pub(super) fn protect(&self, pages: Range<usize>) {
        // SAFETY: within the mapping, which nothing refers to.
        let result = unsafe {
            let start = self.start.add(pages.start * page());
            libc::mprotect(start.cast(), pages.len() * page(), libc::PROT_NONE)
        };
        assert_eq!(result, 0);
    }

    /// The region of it. Neighbours of the same kind may be part of the kernel's.
    pub(super) fn region(&self) -> Region {
        let all = regions(std::process::id()).unwrap();
        let mut region = all.into_iter().find(|region| region.range.contains(&self.address(0))).unwrap();
        region.range = self.range(0..self.pages);
        region
    }

    /// Entries of the pagemap that are present.
    pub(super) fn present(&self) -> Vec<bool> {
        let mut bytes = vec![0; self.pages * 8];
        let pagemap = File::open("/proc/self/pagemap").unwrap();
        pagemap.read_exact_at(&mut bytes, self.address(0) / page() as u64 * 8).unwrap();
        bytes.chunks(8).map(|entry| entry[7] & 0x80 != 0).collect()
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: nothing refers to it.
        unsafe { libc::munmap(self.start.cast(), self.pages * page()) };
    }
}
