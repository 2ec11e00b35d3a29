//! Pages with what the allocator keeps, read lately: neighbours describe neighbours, mostly.

use super::{
    super::memory::{PAGE, Peek},
    layout::EXTENT_WORDS,
};

const WORDS: usize = (PAGE / 8) as usize;
/// Pages that are remembered.
const PAGES: usize = 512;

struct Page {
    address: u64,
    count: usize,
    words: Box<[u64]>,
}

/// Pages read lately.
pub(super) struct Pages(Vec<Option<Page>>);

impl Pages {
    pub(super) fn new() -> Self {
        Self(std::iter::repeat_with(|| None).take(PAGES).collect())
    }

    /// The words of an extent's description, which is in one page.
    pub(super) fn words<M: Peek>(&mut self, memory: &mut M, address: u64) -> Option<[u64; EXTENT_WORDS]> {
        let start = address & !(PAGE - 1);
        let page = self.0.get_mut((start / PAGE) as usize % PAGES)?;
        let place = ((address - start) / 8) as usize;
        if page.as_ref().is_none_or(|page| page.address != start) {
            let mut words = vec![0; WORDS].into_boxed_slice();
            let count = memory.read(start, &mut words).min(WORDS);
            *page = Some(Page { address: start, count, words });
        }
        let Page { count, words, .. } = page.as_ref()?;
        if let Some(words) = words.get(..*count)?.get(place..).and_then(|words| words.first_chunk()) {
            return Some(*words);
        }
        let mut words = [0; EXTENT_WORDS];
        (memory.read_anew(address, &mut words) == EXTENT_WORDS).then_some(words)
    }
}
