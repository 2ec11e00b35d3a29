//! Which stacks of threads are still in use.

use std::ops::Range;

use rustc_hash::FxHashMap;

use crate::target::{threads, usage};

/// Threads that are looked at: more are taken to live.
const MAX_THREADS: usize = 4096;

/// Stacks created by one stack of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Created {
    /// How many.
    pub(super) count: u64,
    /// Bytes of all.
    pub(super) bytes: u64,
    /// Those without a thread, at least.
    pub(super) ended: u64,
}

/// Mapped stacks: their addresses, the slot of the stack of calls, and how many there are.
pub(super) type Mapped = Vec<(Range<u64>, u32, u64)>;

/// What became of the stacks of process `pid`, by the slot of the stack that created them.
pub(super) fn created(pid: u32, stacks: &Mapped) -> FxHashMap<u32, Created> {
    let tids = if stacks.is_empty() { Vec::new() } else { threads::all(pid, MAX_THREADS) };
    let pointers: Vec<Option<u64>> = tids.iter().map(|&tid| usage::stack_pointer(pid, tid)).collect();
    let are_all = tids.len() < MAX_THREADS;
    judge(stacks, &pointers, are_all)
}

/// By the stack pointers of living threads; `None`: one that runs, and may be on any stack.
fn judge(stacks: &Mapped, pointers: &[Option<u64>], are_all: bool) -> FxHashMap<u32, Created> {
    let mut found: FxHashMap<u32, Created> = FxHashMap::default();
    let mut pointed: Vec<u64> = pointers.iter().flatten().copied().collect();
    pointed.sort_unstable();
    let mut running = pointers.iter().filter(|pointer| pointer.is_none()).count() as u64;
    for (range, slot, count) in stacks {
        let below = |address| pointed.partition_point(|&pointer| pointer < address);
        let living = below(range.end).saturating_sub(below(range.start)) as u64;
        let mut ended = if are_all { count.saturating_sub(living) } else { 0 };
        let spared = ended.min(running);
        ended -= spared;
        running -= spared;
        let created = found.entry(*slot).or_default();
        created.count += count;
        created.bytes += range.end - range.start;
        created.ended += ended;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Created, judge};

    #[test]
    fn stacks_without_a_pointer_have_no_thread() {
        let stacks = vec![(0x1000..0x3000, 1, 2), (0x5000..0x6000, 1, 1), (0x8000..0x9000, 2, 1)];
        let found = judge(&stacks, &[Some(0x1800), Some(0x8fff), Some(0x9000), Some(0x70)], true);
        assert_eq!(found[&1], Created { count: 3, bytes: 0x3000, ended: 2 });
        assert_eq!(found[&2], Created { count: 1, bytes: 0x1000, ended: 0 });
    }

    #[test]
    fn a_running_thread_may_be_on_any_stack() {
        let stacks = vec![(0x1000..0x3000, 1, 2), (0x5000..0x6000, 1, 1)];
        assert_eq!(judge(&stacks, &[None, None], true)[&1].ended, 1);
        assert_eq!(judge(&stacks, &[], false)[&1].ended, 0);
        assert_eq!(judge(&stacks, &[], true)[&1].ended, 3);
    }
}
