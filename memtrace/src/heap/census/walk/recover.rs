//! How a walk goes on where memory has changed, or is not the allocator's.

use super::{
    super::{
        layout::{ALIGNMENT, FENCEPOST, FLAGS, HEADER, IS_MMAPPED, LEAST_CHUNK, NON_MAIN_ARENA},
        memory::{PAGE, Peek},
    },
    Chunk, Header, RECENT, Walk,
};

/// So many chunks that follow one another are no accident.
const CHAIN: usize = 8;
/// They are not further back than this.
const BACK: u64 = 256 << 10;
/// A chunk of more than this is not searched for others if what follows it makes no sense.
const SEARCHED: u64 = 1 << 20;

impl<M: Peek> Walk<'_, M> {
    /// Reads the next part of memory, and the last chunks with it: when they were read, the next one may not yet have been
    /// where it is now. Returns where to go on.
    #[cold]
    pub(super) fn read_on(&mut self, at: u64) -> u64 {
        let Some(last) = self.last else { return at };
        let recent = self.recent.iter().copied().filter(|&chunk| chunk != 0 && at - BACK.min(at) <= chunk);
        let Some(first) = recent.min().filter(|&first| first <= last.address) else { return at };
        self.window.clear();
        let (mut next, mut found) = (first, None);
        while next < at {
            let words: Option<[u64; 4]> = self.window.load(self.memory, next, self.span.range.end);
            let Some([before, word, link, key]) = words else { return at };
            match self.header(next, [before, word], found.as_ref()) {
                Header::Chunk(size) => {
                    let non_main = word & NON_MAIN_ARENA != 0;
                    found = Some(Chunk { address: next, size, non_main, link, key });
                    next += size;
                }
                Header::Fencepost => {
                    found = None;
                    next += FENCEPOST;
                }
                Header::End | Header::Bad => return at,
            }
        }
        if found.is_none_or(|found| found != last) {
            self.walked.read_again += 1;
        }
        // What was visited before is not visited again.
        self.last = found.filter(|found| found.address >= last.address);
        next
    }

    /// The header at `at` makes no sense. Returns where to go on.
    #[cold]
    pub(super) fn recover(&mut self, at: u64) -> Option<u64> {
        self.budget.failures = self.budget.failures.checked_sub(1)?;
        if let Some(words) = self.window.refresh(self.memory, at)
            && self.header(at, words, self.last.as_ref()) != Header::Bad
            && self.window.get(at) == Some(words)
        {
            self.walked.read_again += 1;
            return Some(at);
        }
        let end = self.span.range.end;
        self.read_top();
        self.read_end();
        if at == self.top || end != self.span.range.end {
            return Some(at);
        }
        let mut from = at + ALIGNMENT;
        let mut skipped = at;
        if let Some(last) = self.last.take() {
            let size = match self.window.refresh(self.memory, last.address) {
                Some(words) => self.header(last.address, words, None),
                None => Header::Bad,
            };
            match size {
                Header::Chunk(size) if size != last.size => {
                    self.walked.read_again += 1;
                    self.last = Some(Chunk { size, ..last });
                    return Some(last.address + size);
                }
                _ if last.size < SEARCHED => from = last.address + LEAST_CHUNK,
                _ => {}
            }
            skipped = last.address;
        }
        let next = self.search(from);
        self.recent = [0; RECENT];
        // Memory of others is no loss.
        if !self.span.is_aligned {
            return next;
        }
        let Some(next) = next else {
            self.walked.left += at - skipped;
            self.walked.unknown.push(skipped..at);
            return None;
        };
        self.walked.resumed += 1;
        self.walked.skipped += next - skipped;
        self.walked.unknown.push(skipped..next);
        Some(next)
    }

    /// The next place from which chunks follow one another.
    pub(super) fn search(&mut self, from: u64) -> Option<u64> {
        let end = self.span.range.end;
        let mut at = from.next_multiple_of(ALIGNMENT);
        while at + LEAST_CHUNK <= end {
            self.budget.search = self.budget.search.checked_sub(ALIGNMENT)?;
            let words: Option<[u64; 2]> = self.window.load(self.memory, at, end);
            match words {
                // A page that is not there, or has nothing in it.
                None => at = self.memory.present((at & !(PAGE - 1)) + PAGE..end)?.start,
                Some([0, 0]) if at.is_multiple_of(PAGE) => {
                    let start = self.memory.present(at..end)?.start;
                    at = if start > at { start } else { at + ALIGNMENT };
                }
                // A chunk that is a mapping of its own: what is in it is the program's.
                Some([0, word])
                    if !self.span.is_aligned
                        && at.is_multiple_of(PAGE)
                        && word & FLAGS == IS_MMAPPED
                        && (word & !FLAGS).is_multiple_of(PAGE)
                        && (PAGE..=end - at).contains(&(word & !FLAGS)) =>
                {
                    at += word & !FLAGS;
                }
                Some(_) if self.is_chain(at) => return Some(at),
                Some(_) => at += ALIGNMENT,
            }
        }
        None
    }

    /// Whether chunks follow one another from `at` on, up to the top chunk or a number of them.
    fn is_chain(&mut self, at: u64) -> bool {
        let end = self.span.range.end;
        let (mut next, mut last): (u64, Option<Chunk>) = (at, None);
        for place in 0..CHAIN {
            if next == self.top {
                return true;
            }
            if next + HEADER > end {
                // A top chunk ends where memory does.
                return next == end && place > 1;
            }
            let words = match self.window.get(next) {
                Some(words) => words,
                None => match self.far(next) {
                    Some(words) => words,
                    None => return false,
                },
            };
            match self.header(next, words, last.as_ref()) {
                Header::Chunk(size) => {
                    last = Some(Chunk { address: next, size, non_main: false, link: 0, key: 0 });
                    next += size;
                }
                Header::Fencepost if place > 0 => {
                    last = None;
                    next += FENCEPOST;
                }
                Header::End if place > 0 => return true,
                _ => return false,
            }
        }
        true
    }

    /// A header that is not in the window.
    fn far(&mut self, at: u64) -> Option<[u64; 2]> {
        self.budget.reads = self.budget.reads.checked_sub(1)?;
        let mut words = [0; 2];
        (self.memory.read(at, &mut words) == 2).then_some(words)
    }
}
