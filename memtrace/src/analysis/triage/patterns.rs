//! What mappings look like: stacks of threads, arenas of glibc, many ranges of one size.

use rustc_hash::FxHashMap;

use crate::profile::machine::{Pattern, Range};

/// Guards of stacks are one page by default; a program may ask for more.
const LARGEST_GUARD: u64 = 1 << 20;
/// `PTHREAD_STACK_MIN`.
const LEAST_STACK: u64 = 16 << 10;
/// `HEAP_MAX_SIZE` (malloc/arena.c), of 64-bit programs: where an arena's heap begins and how long it is.
const ARENA: u64 = 64 << 20;
/// The most that glibc keeps of stacks of threads that have ended: `DEFAULT_STACK_CACHE_MAXSIZE` (nptl/allocatestack.c).
const STACKS_KEPT: u64 = 40 << 20;
/// Fewer of a kind are no pattern.
const LEAST_STACKS: u64 = 4;
const LEAST_ARENAS: u64 = 2;
const LEAST_RANGES: u64 = 4;
/// Ranges smaller than this are no pattern by themselves, bytes.
const LEAST_RANGE: u64 = 128 << 10;

/// How many of a size, and what of them is in memory.
type Sizes = FxHashMap<u64, (u64, u64)>;

/// The patterns of a process with so many threads.
pub(super) fn of(ranges: &[Range], threads: u64) -> Vec<Pattern> {
    let (mut stacks, mut others, mut arenas) = (Sizes::default(), Sizes::default(), (0, 0));
    let add = |sizes: &mut Sizes, range: &Range| {
        let sum = sizes.entry(range.size()).or_default();
        *sum = (sum.0 + 1, sum.1.saturating_add(range.rss));
    };
    for (at, range) in ranges.iter().enumerate() {
        if !range.is_writable || !range.is_anonymous {
            continue;
        }
        let before = at.checked_sub(1).and_then(|at| ranges.get(at));
        let after = ranges.get(at + 1).filter(|after| after.is_guard && after.start == range.end);
        let heap = after.map_or(range.size(), |after| range.size().saturating_add(after.size()));
        if range.start % ARENA == 0 && heap == ARENA {
            arenas = (arenas.0 + 1, u64::saturating_add(arenas.1, range.rss));
        } else if before.is_some_and(|guard| is_guard_of(guard, range)) && range.size() >= LEAST_STACK {
            add(&mut stacks, range);
        } else if range.size() >= LEAST_RANGE {
            add(&mut others, range);
        }
    }
    let most = |sizes: &Sizes, least: u64| {
        let many = sizes.iter().filter(|(_, (count, _))| *count >= least);
        many.max_by_key(|(each, (count, _))| (each.saturating_mul(*count), **each))
            .map(|(&each, &(count, rss))| (count, each, rss))
    };
    let stacks = most(&stacks, LEAST_STACKS).map(|(count, each, rss)| {
        // The main thread has its stack elsewhere.
        let ended = count.saturating_sub(threads.saturating_sub(1));
        let unjoined = ended.saturating_mul(each) > STACKS_KEPT;
        Pattern::Stacks { count, each, rss, threads, unjoined }
    });
    let arenas = (arenas.0 >= LEAST_ARENAS).then_some(Pattern::Arenas { count: arenas.0, rss: arenas.1 });
    let others = most(&others, LEAST_RANGES).map(|(count, each, rss)| Pattern::Ranges { count, each, rss });
    stacks.into_iter().chain(arenas).chain(others).collect()
}

fn is_guard_of(guard: &Range, range: &Range) -> bool {
    guard.is_guard && guard.end == range.start && guard.size() <= LARGEST_GUARD
}

#[cfg(test)]
mod tests {
    use super::{ARENA, of};
    use crate::profile::machine::{Pattern, Range};

    fn range(start: u64, size: u64, rss: u64) -> Range {
        let is_writable = true;
        Range { start, end: start + size, is_writable, is_guard: false, is_anonymous: true, rss }
    }

    fn guard(start: u64, size: u64) -> Range {
        Range { is_writable: false, is_guard: true, ..range(start, size, 0) }
    }

    #[test]
    fn stacks_below_guards() {
        let each = 8 << 20;
        let ranges: Vec<Range> = (1..=40)
            .map(|at| at * 0x1000_0000)
            .flat_map(|start| [guard(start, 4096), range(start + 4096, each, 8192)])
            .collect();
        let stacks =
            |threads, unjoined| Pattern::Stacks { count: 40, each, rss: 40 * 8192, threads, unjoined };
        assert_eq!(of(&ranges, 1), [stacks(1, true)]);
        assert_eq!(of(&ranges, 36), [stacks(36, false)]);
        // Guards elsewhere, or as large as what they guard, are none.
        let loose: Vec<Range> = (1..=40)
            .map(|at| at * 0x1000_0000)
            .flat_map(|start| [guard(start, 4096), range(start + 8192, 64 << 10, 0)])
            .collect();
        assert_eq!(of(&loose, 1), []);
    }

    #[test]
    fn arenas_and_ranges() {
        let mut ranges: Vec<Range> = (10..13)
            .map(|at| at * ARENA)
            .flat_map(|start| [range(start, 1 << 20, 100), guard(start + (1 << 20), ARENA - (1 << 20))])
            .collect();
        ranges.extend((20..25).map(|at| range(at * ARENA + 4096, 10 << 20, 5)));
        let expected =
            [Pattern::Arenas { count: 3, rss: 300 }, Pattern::Ranges { count: 5, each: 10 << 20, rss: 25 }];
        assert_eq!(of(&ranges, 4), expected);
        assert_eq!(of(&[], 0), []);
    }
}
