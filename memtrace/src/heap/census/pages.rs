//! Which pages of free memory are in memory: the others were never used, or have been given back to the kernel.

use std::ops::Range;

use super::{
    figures::Arena,
    memory::{PAGE, Peek},
};

/// Ranges that are looked at, at most; of further ones all pages count as being in memory.
const MOST: usize = 1 << 20;
/// What is at the beginning of a free chunk: `sizeof (struct malloc_chunk)`.
const DESCRIBED: u64 = 48;

/// Whole pages of one free chunk.
struct Free {
    range: Range<u64>,
    /// The number of the arena.
    arena: usize,
    /// Whether `malloc_trim` would give them back (`mtrim`, malloc/malloc.c), or a purge of jemalloc's.
    is_trimmed: bool,
}

/// The free chunks of all arenas that have whole pages.
#[derive(Default)]
pub(super) struct FreePages(Vec<Free>);

impl FreePages {
    /// A free chunk in a bin.
    #[inline]
    pub(super) fn chunk(&mut self, address: u64, size: u64, arena: usize) {
        if size > PAGE {
            self.add(address..address + size, arena, true);
        }
    }

    /// A top chunk.
    pub(super) fn top(&mut self, range: Range<u64>, arena: usize, is_main: bool) {
        self.add(range, arena, is_main);
    }

    /// An extent with nothing in it.
    pub(super) fn extent(&mut self, range: Range<u64>, arena: usize) {
        if self.0.len() < MOST {
            self.0.push(Free { range, arena, is_trimmed: true });
        }
    }

    fn add(&mut self, chunk: Range<u64>, arena: usize, is_trimmed: bool) {
        let range = (chunk.start + DESCRIBED).next_multiple_of(PAGE)..chunk.end & !(PAGE - 1);
        if range.start < range.end && self.0.len() < MOST {
            self.0.push(Free { range, arena, is_trimmed });
        }
    }

    /// Looks which of them are present, and adds that to the arenas.
    pub(super) fn count(mut self, memory: &mut impl Peek, arenas: &mut [Arena]) {
        // In order of address pages are looked up fastest.
        self.0.sort_unstable_by_key(|free| free.range.start);
        for Free { range, arena, is_trimmed } in self.0 {
            let Some(arena) = arenas.get_mut(arena) else { continue };
            let (mut at, mut present) = (range.start, 0);
            while at < range.end
                && let Some(run) = memory.present(at..range.end)
            {
                present += run.end.saturating_sub(run.start);
                at = run.end.max(at + PAGE);
            }
            arena.absent += (range.end - range.start).saturating_sub(present);
            arena.trimmable += if is_trimmed { present } else { 0 };
        }
    }
}
