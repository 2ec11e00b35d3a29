//! The memory of a process as a scan reads it: paced, and ended early if that is asked for.

use std::{
    io,
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use super::{check::Failure, pass::Free};
use crate::{
    heap::{Between, Memory},
    model::ThreadRegisters,
    target::memory::{Kind, Reader, Region},
};

/// Bytes read at a time: the agent looks at the clock after each.
const PART: u64 = 1 << 20;
const PAGE: u64 = 4096;
/// Size and alignment of a heap of glibc's (`HEAP_MAX_SIZE`, malloc/arena.c).
const ARENA_HEAP: u64 = 64 << 20;
/// What a program may use below its stack pointer (System V ABI for x86-64, 3.2.2).
const RED_ZONE: u64 = 128;

/// A process's memory.
pub(super) struct TargetMemory<'a> {
    reader: Reader,
    /// Each with where to begin in it: not below the stack pointer of a thread at rest.
    regions: Vec<(&'a Region, u64)>,
    at: usize,
    /// Bytes per second at most; 0 for as many as possible.
    rate: u64,
    started: Instant,
    bytes: u64,
    deadline: Instant,
    stop: &'a AtomicBool,
    free: Free,
    /// Whether the allocator's memory that is new since is not to be taken for roots.
    grows: bool,
    /// Whether it ended early.
    cut: bool,
}

impl<'a> TargetMemory<'a> {
    pub(super) fn new(
        reader: Reader,
        regions: &'a [Region],
        threads: &[ThreadRegisters],
        rate: u64,
        limit: Duration,
        stop: &'a AtomicBool,
    ) -> Self {
        let regions = regions.iter().map(|region| (region, begin(region, threads)));
        Self {
            reader,
            regions: regions.collect(),
            at: 0,
            rate,
            started: Instant::now(),
            bytes: 0,
            deadline: Instant::now() + limit,
            stop,
            free: Free::Unknown,
            grows: false,
            cut: false,
        }
    }

    /// What is in no block is no root there. `grows`: nor in what the allocator has taken since, beside it.
    pub(super) fn with_free(self, free: Free, grows: bool) -> Self {
        Self { free, grows, ..self }
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Whether what was read is worth something.
    ///
    /// # Errors
    /// The process is gone, or may not be read, or reading ended early.
    pub(super) fn check(&self) -> Result<(), Failure> {
        if self.reader.is_gone() {
            return Err(Failure::Gone);
        }
        if self.reader.is_refused() {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied).into());
        }
        if self.cut { Err(Failure::Cut) } else { Ok(()) }
    }

    /// Whether a part is in a heap of an arena of glibc's, as other threads than the first use.
    fn is_arena(&mut self, part: &Range<u64>) -> bool {
        let start = part.start & !(ARENA_HEAP - 1);
        // `heap_info`: the arena, which lies behind that of its first heap; the heap before; the size.
        let mut info = [0; 3];
        if self.reader.read(start, &mut info) < size_of_val(&info) {
            return false;
        }
        let [arena, before, size] = info;
        (32..=64).contains(&(arena & (ARENA_HEAP - 1)))
            && (before == 0) == (arena & !(ARENA_HEAP - 1) == start)
            && before & (ARENA_HEAP - 1) == 0
            && size & (PAGE - 1) == 0
            && (start..=start.saturating_add(size.min(ARENA_HEAP))).contains(&part.end)
    }

    /// Whether an address, in the region at that place, is in what the allocator has taken since it was asked. What an arena
    /// reserves follows what it has, and was not to be read when the regions were.
    fn is_new(&self, place: usize, at: u64) -> bool {
        let Some((region, _)) = self.regions.get(place) else { return false };
        let before = place.checked_sub(1).and_then(|before| self.regions.get(before));
        let before = before.filter(|(before, _)| {
            region.kind == Kind::Hidden && before.is_anonymous() && before.range.end == region.range.start
        });
        let start = before.map_or(region.range.start, |(before, _)| before.range.start);
        (region.is_anonymous() || before.is_some()) && self.free.is_beside(at, &(start..region.range.end))
    }

    /// Waits where more has been read than the rate allows. Returns whether to go on.
    fn pace(&mut self) -> bool {
        if let Some(due) = (self.bytes * 1000).checked_div(self.rate) {
            let ahead = Duration::from_millis(due).saturating_sub(self.started.elapsed());
            if ahead >= Duration::from_millis(1) {
                std::thread::sleep(ahead);
            }
        }
        self.cut |= self.stop.load(Ordering::Relaxed) || Instant::now() >= self.deadline;
        !self.cut
    }
}

/// Where in a region to begin: what is below the stack pointer of a thread whose registers are known is no longer used, if
/// the region is that thread's stack and no other's.
fn begin(region: &Region, threads: &[ThreadRegisters]) -> u64 {
    let inside = |address: Option<u64>| address.filter(|address| region.range.contains(address));
    let mut here = threads.iter().filter(|thread| inside(thread.sp).or(inside(thread.tls)).is_some());
    match (here.next(), here.next()) {
        (Some(thread), None) if is_stack(region, thread) => thread
            .sp
            .map_or(region.range.start, |sp| (sp.saturating_sub(RED_ZONE) & !7).max(region.range.start)),
        _ => region.range.start,
    }
}

/// Whether a file is glibc: of version 2.33 or before it may be `libc-2.31.so`.
fn is_libc(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"))
}

/// Whether a region with a thread's stack pointer is the stack that the thread began with. C libraries place its
/// thread-local memory at the upper end. Without that, the stack may be a coroutine's, with those of others below it.
fn is_stack(region: &Region, thread: &ThreadRegisters) -> bool {
    let holds = |address: Option<u64>| address.is_some_and(|address| region.range.contains(&address));
    holds(thread.sp)
        && match region.kind {
            Kind::MainStack => true,
            Kind::Anonymous => region.follows_guard && holds(thread.tls) && thread.sp < thread.tls,
            Kind::Heap | Kind::FilePrivate | Kind::FileShared | Kind::SharedMemory | Kind::Hidden => false,
        }
}

impl Memory for TargetMemory<'_> {
    fn next(&mut self, from: u64) -> Option<Range<u64>> {
        if !self.pace() {
            return None;
        }
        // Asked for in order of address.
        while let Some((region, begin)) = self.regions.get(self.at) {
            let from = from.max(*begin);
            if from < region.range.end
                && let Some(run) = self.reader.next_run(region, from)
            {
                let start = run.start.max(from);
                // Bounds are multiples of 8, as addresses of words are.
                return Some(start..run.end.min(start + PART).min(self.free.next_bound(start)));
            }
            self.at += 1;
        }
        None
    }

    fn read(&mut self, address: u64, words: &mut [u64]) -> usize {
        if !self.pace() {
            return 0;
        }
        let read = self.reader.read(address, words);
        self.bytes += read as u64;
        read / 8
    }

    fn between(&mut self, part: &Range<u64>) -> Between {
        if self.free.contains(part.start) {
            return Between::Free;
        }
        let place = self.regions.partition_point(|(region, _)| region.range.end <= part.start);
        let all_known = matches!(self.free, Free::Glibc);
        match self.regions.get(place).map(|(region, _)| *region) {
            Some(_) if self.grows && self.is_new(place, part.start) => Between::Free,
            Some(region) if region.kind == Kind::Heap && all_known => Between::Rounded,
            Some(region) if region.kind == Kind::Anonymous && all_known && self.is_arena(part) => {
                Between::Rounded
            }
            Some(region) if region.kind == Kind::FilePrivate && is_libc(&region.name) => Between::Chunks,
            _ => Between::Roots,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, Region, ThreadRegisters, begin};

    const START: u64 = 0x7f00_0000_0000;
    const END: u64 = START + 0x10_0000;

    fn thread(sp: Option<u64>, tls: Option<u64>) -> ThreadRegisters {
        ThreadRegisters { tid: 1, sp, tls, words: Vec::new() }
    }

    fn begins(kind: Kind, follows_guard: bool, threads: &[ThreadRegisters]) -> u64 {
        let region = Region {
            range: START..END,
            offset: 0,
            inode: (0, 0),
            name: "".into(),
            writable: true,
            shared: false,
            kind,
            follows_guard,
        };
        begin(&region, threads) - START
    }

    #[test]
    fn a_stack_begins_at_its_threads_stack_pointer() {
        let sp = Some(START + 0x8000);
        let own = [thread(sp, Some(END - 64)), thread(Some(1), Some(2))];
        assert_eq!(begins(Kind::Anonymous, true, &own), 0x8000 - 128);
        assert_eq!(begins(Kind::Anonymous, false, &own), 0);
        assert_eq!(begins(Kind::MainStack, false, &[thread(sp, None)]), 0x8000 - 128);
        assert_eq!(begins(Kind::Heap, true, &own), 0);
    }

    #[test]
    fn a_region_with_other_stacks_is_read_whole() {
        let sp = Some(START + 0x8000);
        // A coroutine: the thread's own stack is elsewhere.
        assert_eq!(begins(Kind::Anonymous, true, &[thread(sp, Some(2))]), 0);
        // Another thread's stack, with a stack pointer that is not known.
        let two = [thread(sp, Some(END - 64)), thread(None, Some(START + 0x4000))];
        assert_eq!(begins(Kind::Anonymous, true, &two), 0);
        assert_eq!(begins(Kind::MainStack, false, &[thread(sp, None), thread(Some(START + 8), None)]), 0);
    }
}
