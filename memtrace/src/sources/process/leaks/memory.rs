//! The memory of a process as a scan reads it: paced, and ended early if that is asked for.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

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
    /// Whether every block of glibc's allocator is known, and no other allocator is used.
    all_known: bool,
    /// Whether it ended early.
    pub(super) cut: bool,
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
            all_known: false,
            cut: false,
        }
    }

    /// Every block of glibc's allocator is known, and no other one is used.
    pub(super) fn with_all_known(self, all_known: bool) -> Self {
        Self { all_known, ..self }
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
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

/// Where in a region to begin: what is below the stack pointer of a thread whose registers are known is no longer used. A
/// stack is told by the guard below it; the main thread's by its name.
fn begin(region: &Region, threads: &[ThreadRegisters]) -> u64 {
    let pointers = threads.iter().filter_map(|thread| thread.sp).filter(|sp| region.range.contains(sp));
    match pointers.min() {
        Some(sp) if is_stack(region) => (sp.saturating_sub(RED_ZONE) & !7).max(region.range.start),
        _ => region.range.start,
    }
}

/// Whether a file is glibc: of version 2.33 or before it may be `libc-2.31.so`.
fn is_libc(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    name == "libc.so.6" || (name.starts_with("libc-2.") && name.ends_with(".so"))
}

fn is_stack(region: &Region) -> bool {
    region.kind == Kind::MainStack || (region.kind == Kind::Anonymous && region.follows_guard)
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
                return Some(start..run.end.min(start + PART));
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
        let place = self.regions.partition_point(|(region, _)| region.range.end <= part.start);
        match self.regions.get(place).map(|(region, _)| *region) {
            Some(region) if region.kind == Kind::Heap && self.all_known => Between::Free,
            Some(region) if region.kind == Kind::Anonymous && self.all_known && self.is_arena(part) => {
                Between::Free
            }
            Some(region) if region.kind == Kind::FilePrivate && is_libc(&region.name) => Between::Chunks,
            _ => Between::Roots,
        }
    }
}
