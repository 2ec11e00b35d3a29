//! Which pages of a target are present, without touching them: `PAGEMAP_SCAN` from Linux 6.7, else the entries of
//! /proc/PID/pagemap.

use std::{
    fs::File,
    io,
    ops::Range,
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
};

/// `PAGEMAP_SCAN`, `_IOWR('f', 16, struct pm_scan_arg)`, and its categories (include/uapi/linux/fs.h).
const PAGEMAP_SCAN: u64 = 0xc060_6610;
const PAGE_IS_FILE: u64 = 1 << 2;
const PAGE_IS_PRESENT: u64 = 1 << 3;
const PAGE_IS_SWAPPED: u64 = 1 << 4;
const PAGE_IS_PFNZERO: u64 = 1 << 5;
/// From Linux 6.15. Such a page is also called swapped.
const PAGE_IS_GUARD: u64 = 1 << 8;

/// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const ENTRY_GUARD: u64 = 1 << 58;
const ENTRY_FILE: u64 = 1 << 61;
const ENTRY_SWAPPED: u64 = 1 << 62;
const ENTRY_PRESENT: u64 = 1 << 63;
/// Bytes of an entry.
const ENTRY: u64 = 8;

/// Runs that one call returns. The kernel collects as many before it writes them.
const RUNS: usize = 512;
/// Pages that one call finds: the kernel holds the lock on the target's mappings meanwhile, for about 1 ms.
const PAGES_FOUND: u64 = 16_384;
/// Entries that one call reads.
const ENTRIES: u64 = 4096;
/// Entries that are read in all, about 2 s long: 1 TiB of addresses with pages of 4 KiB. A target can map more for free.
const ENTRIES_IN_ALL: u64 = 1 << 28;

/// `struct pm_scan_arg` (include/uapi/linux/fs.h).
#[repr(C)]
#[derive(Default)]
struct ScanArgument {
    size: u64,
    flags: u64,
    start: u64,
    end: u64,
    walk_end: u64,
    vec: u64,
    vec_len: u64,
    max_pages: u64,
    category_inverted: u64,
    category_mask: u64,
    category_anyof_mask: u64,
    return_mask: u64,
}
const _: () = assert!(size_of::<ScanArgument>() == 96);

/// `struct page_region` (include/uapi/linux/fs.h).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct PageRegion {
    start: u64,
    end: u64,
    categories: u64,
}

/// Which present pages are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All.
    Present,
    /// Those that are no longer the file's: the target has modified them.
    Modified,
}

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The addresses that were looked at.
    pub(super) range: Range<u64>,
    /// Runs of wanted pages, in order.
    pub(super) runs: Vec<Range<u64>>,
    /// Bytes that are swapped out.
    pub(super) swapped: u64,
}

impl Found {
    /// Adds wanted pages, and joins them to the last run if they follow it.
    fn add(&mut self, pages: Range<u64>) {
        match self.runs.last_mut() {
            Some(last) if last.end == pages.start => last.end = pages.end,
            _ => self.runs.push(pages),
        }
    }
}

/// How pages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// By `PAGEMAP_SCAN`, which knows guard pages.
    ScanWithGuards,
    /// By `PAGEMAP_SCAN`, before Linux 6.15.
    Scan,
    /// By the entries of the file.
    Entries,
}

/// The pages of one process. It stays that process if its pid is reused, and sees nothing once the process called exec.
#[derive(Debug)]
pub(super) struct Pages {
    file: File,
    pub(super) method: Method,
    entries_left: u64,
    /// Bytes of a page.
    pub(super) page: u64,
    regions: Vec<PageRegion>,
    bytes: Vec<u8>,
}

impl Pages {
    /// Opens the pagemap of a thread's process.
    ///
    /// # Errors
    /// The thread is gone, or access to /proc is denied.
    pub(super) fn open(thread: u32) -> io::Result<Self> {
        let file = File::open(format!("/proc/{thread}/pagemap"))?;
        // SAFETY: it has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        let page = u64::try_from(page).ok().filter(|page| page.is_power_of_two()).unwrap_or(4096);
        Ok(Self {
            file,
            method: Method::ScanWithGuards,
            entries_left: ENTRIES_IN_ALL,
            page,
            regions: Vec::new(),
            bytes: Vec::new(),
        })
    }

    /// Whether the memory still exists: it does not once the process has exited or called exec.
    pub(super) fn exist(&self) -> bool {
        let mut entry = [0; ENTRY as usize];
        self.file.read_at(&mut entry, 0).is_ok_and(|length| length > 0)
    }

    /// Finds pages from the begin of `range`, whole pages, up to a limit that `found.range` tells. It is at least a page.
    ///
    /// # Errors
    /// `ESRCH`: the memory is gone. Others: the kernel does not tell, or the bound on entries is reached.
    pub(super) fn find(&mut self, range: Range<u64>, wanted: Wanted, found: &mut Found) -> io::Result<()> {
        loop {
            found.runs.clear();
            found.swapped = 0;
            found.range = range.start..range.start;
            let result = match self.method {
                Method::Entries => self.read_entries(range.clone(), wanted, found),
                Method::ScanWithGuards | Method::Scan => self.scan(range.clone(), wanted, found),
            };
            let Err(error) = result else { return Ok(()) };
            // An old kernel knows no such category, or no such call. What else fails may succeed by the other way.
            self.method = match self.method {
                _ if error.raw_os_error() == Some(libc::ESRCH) => return Err(error),
                Method::ScanWithGuards => Method::Scan,
                Method::Scan => Method::Entries,
                Method::Entries => return Err(error),
            };
        }
    }

    fn scan(&mut self, range: Range<u64>, wanted: Wanted, found: &mut Found) -> io::Result<()> {
        self.regions.resize(RUNS, PageRegion::default());
        let mut unwanted = PAGE_IS_PFNZERO;
        if wanted == Wanted::Modified {
            unwanted |= PAGE_IS_FILE;
        }
        if self.method == Method::ScanWithGuards {
            unwanted |= PAGE_IS_GUARD;
        }
        let mut argument = ScanArgument {
            size: size_of::<ScanArgument>() as u64,
            // Never `PM_SCAN_WP_MATCHING`, which would change the target.
            flags: 0,
            start: range.start,
            end: range.end,
            vec: self.regions.as_mut_ptr().expose_provenance() as u64,
            vec_len: RUNS as u64,
            max_pages: PAGES_FOUND,
            category_inverted: unwanted,
            category_mask: unwanted,
            category_anyof_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            return_mask: PAGE_IS_PRESENT | PAGE_IS_SWAPPED,
            ..ScanArgument::default()
        };
        // SAFETY: the argument has the kernel's layout, and `vec` points to `RUNS` regions that nothing else uses.
        let count = unsafe {
            libc::ioctl(self.file.as_raw_fd(), PAGEMAP_SCAN as libc::Ioctl, std::ptr::from_mut(&mut argument))
        };
        let count = usize::try_from(count).map_err(|_negative| io::Error::last_os_error())?;
        found.range.end = argument.walk_end.min(range.end);
        if found.range.is_empty() {
            return Err(io::Error::other("PAGEMAP_SCAN makes no progress"));
        }
        for region in self.regions.iter().take(count) {
            let pages = region.start.max(range.start)..region.end.min(found.range.end);
            if pages.is_empty() {
                continue;
            }
            if region.categories & PAGE_IS_PRESENT != 0 {
                found.add(pages);
            } else {
                found.swapped += pages.end - pages.start;
            }
        }
        Ok(())
    }

    fn read_entries(&mut self, range: Range<u64>, wanted: Wanted, found: &mut Found) -> io::Result<()> {
        let count = (range.end - range.start).div_ceil(self.page).min(ENTRIES).min(self.entries_left);
        if count == 0 {
            return Err(io::Error::other("too many addresses to look at"));
        }
        self.entries_left -= count;
        self.bytes.resize((count * ENTRY) as usize, 0);
        let length = self.file.read_at(&mut self.bytes, range.start / self.page * ENTRY)?;
        let mut at = range.start;
        let (entries, _) = self.bytes.get(..length).unwrap_or_default().as_chunks();
        for &entry in entries {
            let entry = u64::from_ne_bytes(entry);
            let pages = at..at.saturating_add(self.page).min(range.end);
            at = pages.end;
            if entry & ENTRY_PRESENT != 0 && (wanted == Wanted::Present || entry & ENTRY_FILE == 0) {
                found.add(pages);
            } else if entry & (ENTRY_SWAPPED | ENTRY_GUARD) == ENTRY_SWAPPED {
                found.swapped += pages.end - pages.start;
            }
        }
        found.range.end = at;
        // The file ends once the memory is gone.
        if found.range.is_empty() { Err(io::Error::from_raw_os_error(libc::ESRCH)) } else { Ok(()) }
    }
}
