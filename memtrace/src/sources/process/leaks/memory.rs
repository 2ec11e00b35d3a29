//! The memory of a process as a scan reads it: paced, and ended early if that is asked for.

use std::{
    ops::Range,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use crate::{
    heap::Memory,
    model::ThreadRegisters,
    target::memory::{Kind, Reader, Region},
};

/// Bytes read at a time: the agent looks at the clock after each.
const PART: u64 = 1 << 20;
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
            cut: false,
        }
    }

    pub(super) fn reader(&self) -> &Reader {
        &self.reader
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
}
