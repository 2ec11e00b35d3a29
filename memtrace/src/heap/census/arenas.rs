//! Finds `main_arena`, without symbols, and the ring of arenas that it is in.

use std::ops::Range;

use super::{
    layout::{HEAP_MAX, arena, is_address, is_chunk_address},
    memory::{Kind, PAGE, Peek, Regions},
};

/// Data of programs and libraries that is looked through: of one mapping, and in all.
const LARGEST_DATA: u64 = 64 << 20;
const DATA_IN_ALL: u64 = 1 << 30;
/// Places that are looked at closely.
const MOST_CANDIDATES: u32 = 256;
/// Bins that may be changing while they are read. At rest none is.
const CHANGING: u64 = 8;
const ATTEMPTS: usize = 4;
/// Most arenas: by default there are 8 for each processor.
const MOST_ARENAS: usize = 1 << 16;

/// An arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Arena {
    /// Of its `struct malloc_state`.
    pub(super) address: u64,
    /// Its top chunk. 0: none yet.
    pub(super) top: u64,
    /// Bytes that it has from the kernel, by its own account.
    pub(super) system: u64,
    /// Whether it may have memory that is not from `brk`: that failed once.
    pub(super) is_scattered: bool,
}

/// The main arena, with the data that it was found in.
#[derive(Debug)]
pub(super) struct MainArena {
    pub(super) address: u64,
    /// That data: `mp_` is near.
    pub(super) data: Range<u64>,
}

/// Finds the main arenas: one for each C library in the process.
pub(super) fn find<M: Peek>(memory: &mut M, regions: &Regions) -> Vec<MainArena> {
    let (mut found, mut candidates, mut bytes) = (Vec::new(), 0, 0);
    for region in regions.of(Kind::File) {
        let Range { start, end } = region.range.clone();
        let length = end - start;
        bytes += length;
        if length > LARGEST_DATA || bytes > DATA_IN_ALL || length < arena::SIZE {
            continue;
        }
        let mut words = vec![0; (length / 8) as usize];
        let data = Data { start, words: read_all(memory, region.range.clone(), &mut words) };
        for address in data.candidates() {
            candidates += 1;
            if candidates > MOST_CANDIDATES {
                return found;
            }
            if has_bins(memory, address) {
                found.push(MainArena { address, data: start..end });
            }
        }
    }
    found
}

/// Reads a range into words that were zero, by runs of present pages.
pub(super) fn read_all<'a, M: Peek>(memory: &mut M, range: Range<u64>, words: &'a mut [u64]) -> &'a [u64] {
    let mut from = range.start;
    while let Some(run) = memory.present(from..range.end) {
        let (first, last) = ((run.start - range.start) / 8, (run.end - range.start) / 8);
        if let Some(part) = words.get_mut(first as usize..last as usize) {
            memory.read(run.start, part);
        }
        from = run.end.max(from + PAGE);
    }
    words
}

/// The writable data of a file.
struct Data<'a> {
    start: u64,
    words: &'a [u64],
}

impl Data<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        self.words.get(usize::try_from(address.checked_sub(self.start)? / 8).ok()?).copied()
    }

    /// Where the words look like an arena: so many pairs that are a bin's, and plausible words around them.
    fn candidates(&self) -> impl Iterator<Item = u64> {
        // Consecutive pairs up to here, by whether the place is even or odd.
        let (mut pairs, mut selves) = ([0u64; 2], [0u64; 2]);
        (0u64..).zip(self.words.windows(2)).filter_map(move |(place, pair)| {
            let &[fd, bk] = pair else { return None };
            let at = self.start + place * 8;
            let (pairs, selves) = match place % 2 {
                0 => (&mut pairs[0], &mut selves[0]),
                _ => (&mut pairs[1], &mut selves[1]),
            };
            if !is_pair(at, fd, bk) {
                (*pairs, *selves) = (0, 0);
                return None;
            }
            *pairs += 1;
            *selves += u64::from(is_self(at, fd, bk));
            let address = at.checked_sub((arena::BIN_COUNT - 1) * 16 + arena::BINS)?;
            (*pairs >= arena::BIN_COUNT && *selves > 0 && self.is_plausible(address)).then_some(address)
        })
    }

    /// Whether what is around the bins is an arena's.
    fn is_plausible(&self, address: u64) -> bool {
        let word = |offset: u64| self.word(address + offset);
        let (Some(state), Some(fast), Some(next), Some(threads), Some(system), Some(most)) = (
            word(0),
            word(8),
            word(arena::NEXT),
            word(arena::ATTACHED_THREADS),
            word(arena::SYSTEM_MEM),
            word(arena::MAX_SYSTEM_MEM),
        ) else {
            return false;
        };
        let fastbins = (0..arena::FASTBIN_COUNT).map_while(|bin| word(arena::FASTBINS + bin * 8));
        // `mutex` is 0, 1 or 2, `flags` has two bits, `have_fastchunks` is a truth value; there was a byte in use once.
        (state & 0xffff_ffff) <= 2
            && state >> 32 <= 3
            && (fast & 0xffff_ffff) <= 1
            && is_address(next)
            && next.is_multiple_of(8)
            && threads < 1 << 22
            && system.is_multiple_of(PAGE)
            && system <= most
            && word(arena::TOP).is_some_and(is_chunk_address)
            && fastbins.filter(|&chunk| chunk == 0 || is_chunk_address(chunk)).count() as u64
                == arena::FASTBIN_COUNT
    }
}

/// Whether the bins are lists that lead back to them.
fn has_bins<M: Peek>(memory: &mut M, address: u64) -> bool {
    let pair = |memory: &mut M, at: u64| {
        let mut words = [0; 2];
        (memory.read_anew(at, &mut words) == 2).then_some(words)
    };
    let mut changing = 0;
    for bin in 0..arena::BIN_COUNT {
        let at = address + arena::BINS + bin * 16;
        let header = at - arena::FD;
        let leads_back = (0..ATTEMPTS).any(|_| {
            pair(memory, at).is_some_and(|[fd, bk]| {
                is_self(at, fd, bk)
                    || pair(memory, fd.wrapping_add(arena::FD)).is_some_and(|[_, back]| back == header)
                        && pair(memory, bk.wrapping_add(arena::FD)).is_some_and(|[back, _]| back == header)
            })
        });
        changing += u64::from(!leads_back);
    }
    changing <= CHANGING
}

/// An empty bin: both its words are the address of a chunk that has them as `fd` and `bk`.
fn is_self(at: u64, fd: u64, bk: u64) -> bool {
    fd == at.wrapping_sub(arena::FD) && bk == fd
}

fn is_pair(at: u64, fd: u64, bk: u64) -> bool {
    // A library's data is aligned to 8 only, so may the bins be.
    is_self(at, fd, bk) || (is_chunk_address(fd) && is_chunk_address(bk))
}

/// The ring of arenas that the main arena is in, that one first. `None`: it does not close.
pub(super) fn ring<M: Peek>(memory: &mut M, main: u64) -> Option<Vec<Arena>> {
    let mut arenas: Vec<Arena> = Vec::new();
    let mut address = main;
    loop {
        let mut words = [0; 4];
        let mut word = |memory: &mut M, offset: u64| {
            let word = words.get_mut(..1)?;
            (memory.read(address + offset, word) == 1).then_some(())?;
            word.first().copied()
        };
        let top = word(memory, arena::TOP)?;
        let next = word(memory, arena::NEXT)?;
        let system = word(memory, arena::SYSTEM_MEM)?;
        let is_scattered = word(memory, 0)? >> 32 & arena::NONCONTIGUOUS != 0;
        if address != main {
            // An arena is in its own first heap, whose first word is its address.
            let mut owner = [0];
            let read = memory.read(address & !(HEAP_MAX - 1), &mut owner);
            if read != 1 || owner != [address] {
                return None;
            }
        }
        arenas.push(Arena { address, top, system, is_scattered });
        if next == main {
            return Some(arenas);
        }
        if !is_address(next) || !next.is_multiple_of(8) || arenas.len() >= MOST_ARENAS {
            return None;
        }
        address = next;
    }
}
