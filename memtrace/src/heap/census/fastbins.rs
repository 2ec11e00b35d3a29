//! Free chunks in fast bins: the chunks behind them say that they are in use.

use super::{
    layout::{ALIGNMENT, FLAGS, LEAST_CHUNK, Layout, arena, is_chunk_address},
    memory::{Cache, Peek},
};

/// Chunks that are looked at at most.
const MOST: u32 = 1 << 24;
/// How often a list is read if it changes meanwhile.
const ATTEMPTS: usize = 3;

/// The chunks in the fast bins of all arenas.
#[derive(Debug)]
pub(super) struct Fastbins {
    /// In order of address, once complete.
    pub(super) chunks: Vec<u64>,
    /// Lists that did not end as lists do.
    pub(super) broken: u64,
    steps: u32,
}

impl Fastbins {
    pub(super) fn new() -> Self {
        Self { chunks: Vec::new(), broken: 0, steps: MOST }
    }

    /// Reads those of an arena.
    pub(super) fn read<M: Peek>(&mut self, memory: &mut M, address: u64, layout: &Layout) {
        let mut heads = [0; arena::FASTBIN_COUNT as usize];
        let read = memory.read_anew(address + arena::FASTBINS, &mut heads);
        for (bin, &head) in (0u64..).zip(heads.iter().take(read)) {
            if head == 0 {
                continue;
            }
            let size = LEAST_CHUNK + bin * ALIGNMENT;
            let at = address + arena::FASTBINS + bin * 8;
            let known = self.chunks.len();
            let mut is_whole = false;
            for _ in 0..ATTEMPTS {
                self.chunks.truncate(known);
                let Some(first) = word(memory, at) else { break };
                if first == 0 {
                    is_whole = true;
                    break;
                }
                is_whole = self.list(&mut Cache::new(memory), first, size, layout)
                    && word(memory, at) == Some(first);
                if is_whole {
                    break;
                }
            }
            self.broken += u64::from(!is_whole);
        }
    }

    /// Reads a list. Returns whether it ended.
    fn list<M: Peek>(&mut self, cache: &mut Cache<'_, M>, first: u64, size: u64, layout: &Layout) -> bool {
        let mut chunk = first;
        // A ring comes back to a chunk that was remembered: after 1, 2, 4 ... steps (Brent).
        let (mut remembered, mut steps) = (0, 0u32);
        while chunk != 0 {
            if chunk == remembered {
                return false;
            }
            steps += 1;
            if steps.is_power_of_two() {
                remembered = chunk;
            }
            let is_chunk = is_chunk_address(chunk)
                && cache.word(chunk + 8).is_some_and(|word| word & !FLAGS == size)
                && self.steps > 0;
            let Some(link) = cache.word(chunk.wrapping_add(arena::FD)).filter(|_| is_chunk) else {
                return false;
            };
            self.steps -= 1;
            self.chunks.push(chunk);
            chunk = layout.link(chunk + arena::FD, link);
        }
        true
    }

    /// All were read.
    pub(super) fn complete(&mut self) {
        self.chunks.sort_unstable();
        self.chunks.dedup();
    }
}

fn word<M: Peek>(memory: &mut M, address: u64) -> Option<u64> {
    let mut words = [0];
    (memory.read_anew(address, &mut words) == 1).then_some(())?;
    words.first().copied()
}
