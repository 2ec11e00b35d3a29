//! Walks from chunk to chunk. The program goes on meanwhile, and may have overwritten anything: what does not fit is read again,
//! and where that does not help, the next place is looked for from which enough chunks follow one another.

mod recover;

use std::ops::Range;

use super::{
    layout::{
        ALIGNMENT, FENCEPOST, FLAGS, HEADER, HEAP_INFO_WORDS, HEAP_MAX, IS_MMAPPED, LEAST_CHUNK,
        NON_MAIN_ARENA, PREV_INUSE,
    },
    memory::{PAGE, Peek},
    spans::Span,
    window::Window,
};

/// So many chunks are walked again where another part of memory is read.
const RECENT: usize = 8;
/// By how much the memory from `brk` may have grown since it was looked up.
const GROWTH: u64 = 1 << 40;

/// What all walks of a census may do to find their way again.
#[derive(Debug)]
pub(super) struct Budget {
    /// Times that something does not fit.
    pub(super) failures: u32,
    /// Bytes that are searched.
    pub(super) search: u64,
    /// Headers that are read one by one.
    pub(super) reads: u32,
}

impl Default for Budget {
    fn default() -> Self {
        Self { failures: 1 << 16, search: 2 << 30, reads: 1 << 18 }
    }
}

/// A chunk that is no top chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Where it begins, 16 bytes before what the program gets.
    pub(super) address: u64,
    /// Bytes up to the next one.
    pub(super) size: u64,
    /// Whether it is marked as one of another than the main arena. Free ones are not.
    non_main: bool,
    /// The first two words after its header.
    pub(super) link: u64,
    pub(super) key: u64,
}

/// What is done with chunks.
pub(super) trait Sink<M> {
    /// A chunk. `in_use`: so says the next one; it may be in a fast bin or in a thread's cache.
    fn chunk(&mut self, chunk: &Chunk, in_use: bool, window: &Window, memory: &mut M);
}

/// What a walk found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// Where the walk ended, if chunks begin at the beginning of the span: what is before is the allocator's,
    pub(super) end: u64,
    /// except this, which may be anything: in order.
    pub(super) unknown: Vec<Range<u64>>,
    /// Bytes of the top chunk.
    pub(super) top: u64,
    /// Bytes of chunks.
    pub(super) chunks: u64,
    /// Bytes of fenceposts.
    pub(super) fenceposts: u64,
    /// Bytes that were skipped, and how often.
    pub(super) skipped: u64,
    pub(super) resumed: u64,
    /// Headers that made sense when they were read again.
    pub(super) read_again: u64,
    /// Bytes that were not walked.
    pub(super) left: u64,
}

/// A word that is the size of something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Chunk(u64),
    Fencepost,
    End,
    Bad,
}

/// One walk.
pub(super) struct Walk<'a, M> {
    memory: &'a mut M,
    window: &'a mut Window,
    budget: &'a mut Budget,
    span: Span,
    /// Where the address of the top chunk is.
    top_at: u64,
    top: u64,
    /// The last chunk, of which the next one tells whether it is in use.
    last: Option<Chunk>,
    /// The chunks before. 0: none.
    recent: [u64; RECENT],
    walked: Walked,
}

impl<'a, M: Peek> Walk<'a, M> {
    /// `top_at`: where the address of the arena's top chunk is.
    pub(super) fn new(
        memory: &'a mut M,
        window: &'a mut Window,
        budget: &'a mut Budget,
        span: &Span,
        top_at: u64,
    ) -> Self {
        let mut walk = Self {
            memory,
            window,
            budget,
            span: span.clone(),
            top_at,
            top: 0,
            last: None,
            recent: [0; RECENT],
            walked: Walked::default(),
        };
        walk.window.clear();
        walk.read_top();
        walk.read_end();
        walk
    }

    /// Walks over at most `most` chunks.
    pub(super) fn run(mut self, sink: &mut impl Sink<M>, most: u64) -> Walked {
        let mut at = self.span.range.start;
        if !self.span.is_aligned {
            match self.search(at) {
                Some(first) => at = first,
                None => return self.walked,
            }
        }
        let mut count = 0;
        loop {
            let end = self.span.range.end;
            if count == most || at + HEADER > end {
                break;
            }
            if at == self.top && !self.read_top() {
                let size = self.top_chunk(at, sink);
                // Only memory from `brk` and heaps end with it.
                if self.span.is_aligned {
                    return self.ended(at + size);
                }
                match self.search(at + size.max(LEAST_CHUNK)) {
                    Some(next) => at = next,
                    None => return self.walked,
                }
                continue;
            }
            if !self.window.has(at) {
                at = self.read_on(at);
            }
            let header: Option<[u64; 2]> = self.window.load(self.memory, at, end);
            let next = match header.map(|words| (self.header(at, words, self.last.as_ref()), words)) {
                None | Some((Header::Bad, _)) => self.recover(at),
                Some((Header::Fencepost, words)) => {
                    self.finish(words, sink);
                    self.walked.fenceposts += FENCEPOST;
                    Some(at + FENCEPOST)
                }
                Some((Header::End, words)) => {
                    self.end_of_heap(words, sink);
                    return self.ended(at + HEADER);
                }
                Some((Header::Chunk(size), words)) => {
                    self.finish(words, sink);
                    let [link, key] = self.window.get(at + HEADER).unwrap_or_else(|| self.contents(at));
                    let non_main = words[1] & NON_MAIN_ARENA != 0;
                    self.last = Some(Chunk { address: at, size, non_main, link, key });
                    if let Some(oldest) = self.recent.get_mut(count as usize % RECENT) {
                        *oldest = at;
                    }
                    count += 1;
                    Some(at + size)
                }
            };
            match next {
                Some(next) => at = next,
                None => {
                    if self.span.is_aligned {
                        self.walked.left += end - at;
                    }
                    return self.ended(at);
                }
            }
        }
        if let Some(last) = self.last.take()
            && self.span.is_aligned
            && at + HEADER > self.span.range.end
        {
            // Only a top chunk ends where memory does. It may have become another one meanwhile.
            self.walked.top = last.size;
        }
        self.ended(at)
    }

    fn ended(self, end: u64) -> Walked {
        Walked { end: if self.span.is_aligned { end } else { 0 }, ..self.walked }
    }

    /// Reads where the top chunk is now. Returns whether it has moved.
    fn read_top(&mut self) -> bool {
        let mut top = [0];
        let before = self.top;
        if self.memory.read_anew(self.top_at, &mut top) == 1 {
            [self.top] = top;
        }
        self.top != before
    }

    /// Reads where the span ends now.
    fn read_end(&mut self) {
        let range = &mut self.span.range;
        if self.span.is_heap {
            let heap = range.start & !(HEAP_MAX - 1);
            let mut words = [0; HEAP_INFO_WORDS];
            if self.memory.read_anew(heap, &mut words) == HEAP_INFO_WORDS {
                let [.., size] = words;
                if size.is_multiple_of(PAGE) && (PAGE..=HEAP_MAX).contains(&size) {
                    range.end = (heap + size).max(range.start);
                }
            }
        } else if self.span.is_aligned && (range.start..range.end + GROWTH).contains(&self.top) {
            let mut size = [0];
            if self.memory.read_anew(self.top + 8, &mut size) == 1 {
                let [size] = size;
                range.end = range.end.max(self.top + (size & !FLAGS).min(GROWTH));
            }
        }
    }

    /// The first two words of what a program has, where they are not in the window.
    #[cold]
    fn contents(&mut self, chunk: u64) -> [u64; 2] {
        self.window.load(self.memory, chunk + HEADER, self.span.range.end).unwrap_or_default()
    }

    /// What the words at `at` are. `last`: the chunk that ends there.
    #[inline]
    fn header(&self, at: u64, [before, word]: [u64; 2], last: Option<&Chunk>) -> Header {
        let size = word & !FLAGS;
        let left = self.span.range.end - at;
        if word & IS_MMAPPED != 0 || (word & NON_MAIN_ARENA != 0 && !self.span.is_heap) {
            return Header::Bad;
        }
        // The size of a free chunk is behind it too.
        if word & PREV_INUSE == 0 && last.is_some_and(|last| last.size != before) {
            return Header::Bad;
        }
        if size >= LEAST_CHUNK && size.is_multiple_of(ALIGNMENT) && size <= left {
            Header::Chunk(size)
        } else if size == FENCEPOST && left >= FENCEPOST {
            Header::Fencepost
        } else if size == 0 && self.span.is_heap && left == HEADER && word & PREV_INUSE != 0 {
            Header::End
        } else {
            Header::Bad
        }
    }

    /// The last chunk ends where the header is.
    #[inline]
    fn finish(&mut self, [_, word]: [u64; 2], sink: &mut impl Sink<M>) {
        if let Some(last) = self.last.take() {
            self.walked.chunks += last.size;
            sink.chunk(&last, word & PREV_INUSE != 0, self.window, self.memory);
        }
    }

    /// The end of a heap that is not its arena's last one.
    fn end_of_heap(&mut self, words: [u64; 2], sink: &mut impl Sink<M>) {
        self.walked.fenceposts += HEADER;
        // A top chunk that was too small to be freed is part of the fencepost (`sysmalloc`).
        match self.last {
            Some(last) if last.size == LEAST_CHUNK && !last.non_main => {
                self.walked.fenceposts += last.size;
                self.last = None;
            }
            _ => self.finish(words, sink),
        }
    }

    /// Counts the top chunk, and returns its size.
    fn top_chunk(&mut self, at: u64, sink: &mut impl Sink<M>) -> u64 {
        let words = self.window.refresh(self.memory, at).unwrap_or_default();
        self.finish(words, sink);
        // It may have grown beyond what was known of the memory.
        self.walked.top = (words[1] & !FLAGS).min((self.span.range.end - at).max(HEAP_MAX));
        self.walked.top
    }
}
