//! Reads the memory of a running target.

use std::{
    fs::File,
    io::{self, IoSliceMut},
    ops::Range,
    os::unix::fs::FileExt as _,
};

use nix::{
    errno::Errno,
    sys::uio::{RemoteIoVec, process_vm_readv},
    unistd::Pid,
};

use super::{
    pages::{Found, Method, Pages, Wanted},
    regions::{Kind, Region},
};
use crate::target::threads;

/// Failures in succession, nothing read in between, of which each skips one page. Each further one skips twice as many:
/// what the kernel refuses page by page is a device.
const PATIENCE: u32 = 8;
/// Doublings at most.
const DOUBLINGS: u32 = 20;
/// Threads that are tried if each ends meanwhile.
const ATTEMPTS: usize = 8;

/// What a reader has read and skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Bytes read.
    pub bytes_read: u64,
    /// Bytes skipped because they are swapped out: reading would have brought them back.
    pub bytes_swapped: u64,
    /// Bytes skipped because they hold nothing of the target's: never touched, zero, or an unmodified page of a file.
    pub bytes_untouched: u64,
    /// Bytes that could not be read: unmapped meanwhile, a device's, or too many addresses to look at (before Linux 6.7).
    pub bytes_unreadable: u64,
}

/// Why there is nothing more to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Gone,
    Refused,
}

/// Reads the memory of a process, for one pass over its regions. Nothing is faulted in, except pages that the target
/// gives back between [`Reader::next_run`] and [`Reader::read`]: reading these maps zero pages.
#[derive(Debug)]
pub struct Reader {
    pid: u32,
    /// The thread through which it is read: the main thread while that lives.
    thread: u32,
    pub(super) pages: Pages,
    /// /proc/PID/mem, through which a debugger reads what the target itself may not; opened when it is needed.
    hidden: Option<File>,
    /// Whether the region may not be read by the target itself.
    is_hidden: bool,
    /// The region that the fields below are about.
    region: Range<u64>,
    found: Found,
    /// Up to where it is counted what was skipped.
    counted: u64,
    /// The run returned last.
    run: Range<u64>,
    /// Pages that could not be read last.
    bad: Range<u64>,
    failures: u32,
    figures: Figures,
    end: Option<End>,
}

impl Reader {
    /// A reader of process `pid`.
    ///
    /// # Errors
    /// The process is gone, or access to /proc is denied.
    pub fn open(pid: u32) -> io::Result<Self> {
        let thread = threads::living(pid).ok_or_else(|| io::Error::from_raw_os_error(libc::ESRCH))?;
        Ok(Self {
            pid,
            thread,
            pages: Pages::open(thread)?,
            hidden: None,
            is_hidden: false,
            region: 0..0,
            found: Found::default(),
            counted: 0,
            run: 0..0,
            bad: 0..0,
            failures: 0,
            figures: Figures::default(),
            end: None,
        })
    }

    /// The next run of pages to read in a region, at or after address `from`: where the last [`Reader::read`] ended, even
    /// if that read nothing. A page that could not be read is skipped. `None`: the region, or the target, ends.
    pub fn next_run(&mut self, region: &Region, from: u64) -> Option<Range<u64>> {
        let wanted = match region.kind {
            Kind::MainStack | Kind::Heap | Kind::Anonymous | Kind::SharedMemory => Wanted::Present,
            Kind::FilePrivate => Wanted::Modified,
            // Reserved addresses are looked through only where that takes no time for each page.
            Kind::Hidden if self.pages.method == Method::Entries => return None,
            // Those of a private file mapping are the file's until they are modified.
            Kind::Hidden if region.shared => Wanted::Present,
            Kind::Hidden => Wanted::Modified,
            Kind::FileShared => return None,
        };
        self.is_hidden = region.kind == Kind::Hidden;
        if self.region != region.range {
            self.region = region.range.clone();
            self.found = Found::default();
            self.counted = region.range.start;
            self.bad = 0..0;
        }
        self.run = 0..0;
        let mut from = from.max(region.range.start);
        if self.bad.contains(&from) {
            from = self.bad.end;
        }
        while self.end.is_none() && from < region.range.end {
            if !self.found.range.contains(&from) {
                self.find(from, wanted)?;
            }
            if let Some(run) = self.found.runs.get(self.found.runs.partition_point(|run| run.end <= from)) {
                self.run = run.start.max(from)..run.end;
                return Some(self.run.clone());
            }
            from = self.found.range.end;
        }
        None
    }

    /// Reads memory from `address`, and returns the number of bytes read: at most as many as the buffer has, and none
    /// behind the run that [`Reader::next_run`] returned last, if the address is in it. Fewer: what follows cannot be
    /// read. None from a target that is gone.
    pub fn read(&mut self, address: u64, buffer: &mut [u64]) -> usize {
        let is_in_run = self.run.contains(&address);
        let room = if is_in_run { self.run.end - address } else { u64::MAX - address };
        let length = usize::try_from(room).unwrap_or(usize::MAX).min(size_of_val(buffer));
        if self.end.is_some() || length == 0 {
            return 0;
        }
        // SAFETY: the words are initialized and exclusively borrowed, every byte pattern is a word, and `length` is not
        // above their size.
        let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.as_mut_ptr().cast::<u8>(), length) };
        let count = self.transfer(address, bytes);
        self.figures.bytes_read += count as u64;
        if count > 0 {
            self.failures = 0;
        }
        if count < length && is_in_run {
            self.skip(address + count as u64);
        }
        count
    }

    /// Whether the target's memory is gone: it exited or called exec, maybe before the last bytes were read. What was read
    /// is then worth nothing.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        self.end == Some(End::Gone) || !self.pages.exist()
    }

    /// Whether the kernel refused to read the target: a security module, or other credentials since it was opened.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.end == Some(End::Refused)
    }

    /// What was read and skipped so far.
    #[must_use]
    pub fn figures(&self) -> Figures {
        self.figures
    }

    /// Finds pages from `from` on, and counts what is skipped once. `None`: it cannot be determined.
    fn find(&mut self, from: u64, wanted: Wanted) -> Option<()> {
        let start = from & !(self.pages.page - 1);
        // What was counted is looked at again on its own.
        let end = if start < self.counted { self.counted } else { self.region.end };
        match self.pages.find(start..end, wanted, &mut self.found) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                self.end = Some(End::Gone);
                return None;
            }
            Err(_cannot_tell) => {
                self.figures.bytes_unreadable += self.region.end - self.counted.max(start);
                self.counted = self.region.end;
                self.found = Found::default();
                return None;
            }
        }
        if start >= self.counted {
            let length = |range: &Range<u64>| range.end - range.start;
            let present: u64 = self.found.runs.iter().map(length).sum();
            self.figures.bytes_swapped += self.found.swapped;
            self.figures.bytes_untouched +=
                length(&self.found.range).saturating_sub(present + self.found.swapped);
            self.counted = self.found.range.end;
        }
        Some(())
    }

    /// One call, and the number of bytes that it read; again if the thread that it read through has ended.
    fn transfer(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        if self.is_hidden && self.run.contains(&address) {
            return self.transfer_hidden(address, bytes);
        }
        let Ok(base) = usize::try_from(address) else { return 0 };
        for _ in 0..ATTEMPTS {
            let remote = RemoteIoVec { base, len: bytes.len() };
            let thread = Pid::from_raw(i32::try_from(self.thread).unwrap_or_default());
            match process_vm_readv(thread, &mut [IoSliceMut::new(bytes)], &[remote]) {
                Ok(count) => return count.min(bytes.len()),
                Err(Errno::EFAULT | Errno::ENOMEM | Errno::EINTR) => return 0,
                Err(Errno::ESRCH) => {}
                Err(_refused) => {
                    self.end = Some(End::Refused);
                    return 0;
                }
            }
            // The pid may be another process's by now: the memory that is looked at tells.
            match threads::living(self.pid) {
                Some(thread) if self.pages.exist() => self.thread = thread,
                _ => break,
            }
        }
        self.end = Some(End::Gone);
        0
    }

    /// The same where the target itself may not read. The kernel may be set to refuse it (`proc_mem.force_override`, from
    /// Linux 6.12).
    fn transfer_hidden(&mut self, address: u64, bytes: &mut [u8]) -> usize {
        if self.hidden.is_none() {
            self.hidden = File::open(format!("/proc/{}/mem", self.thread)).ok();
        }
        self.hidden.as_ref().and_then(|file| file.read_at(bytes, address).ok()).unwrap_or(0)
    }

    /// Skips the page at `address`, in the run, and looks at what follows it again: the mapping may have changed.
    fn skip(&mut self, address: u64) {
        self.failures = self.failures.saturating_add(1);
        let doublings = self.failures.saturating_sub(PATIENCE).min(DOUBLINGS);
        let start = address & !(self.pages.page - 1);
        self.bad = start..start.saturating_add(self.pages.page << doublings).min(self.run.end);
        self.figures.bytes_unreadable += self.bad.end.saturating_sub(address);
        self.run = 0..0;
        self.found = Found::default();
    }
}
