//! Memory read in large parts, in order of address: a call for each block would cost more than all the rest.

use super::memory::Peek;

/// Words read at a time: 1 MiB.
const WORDS: usize = 1 << 17;

/// What was read last.
pub(super) struct Window {
    start: u64,
    count: usize,
    words: Vec<u64>,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { start: 0, count: 0, words: vec![0; WORDS] }
    }

    /// Forgets what was read.
    pub(super) fn clear(&mut self) {
        self.count = 0;
    }

    /// Whether a header at `address` is in the window.
    #[inline]
    pub(super) fn has(&self, address: u64) -> bool {
        self.get::<2>(address).is_some()
    }

    /// Words from `address` on, if they are in the window.
    #[inline]
    pub(super) fn get<const N: usize>(&self, address: u64) -> Option<[u64; N]> {
        let place = (address.wrapping_sub(self.start) / 8) as usize;
        let words = self.words.get(..self.count)?.get(place..)?.first_chunk()?;
        Some(*words)
    }

    /// As [`Window::get`]; reads on where they are not, up to `end`.
    #[inline]
    pub(super) fn load<const N: usize>(
        &mut self,
        memory: &mut impl Peek,
        address: u64,
        end: u64,
    ) -> Option<[u64; N]> {
        match self.get(address) {
            Some(words) => Some(words),
            None => self.read(memory, address, end),
        }
    }

    #[cold]
    fn read<const N: usize>(&mut self, memory: &mut impl Peek, address: u64, end: u64) -> Option<[u64; N]> {
        let count = (end.saturating_sub(address) / 8).min(WORDS as u64) as usize;
        self.start = address;
        self.count = 0;
        let words = self.words.get_mut(..count)?;
        self.count = memory.read(address, words).min(count);
        self.get(address)
    }

    /// Replaces words of the window by those that are in memory now, and returns them. `None`: they cannot be read.
    pub(super) fn refresh<const N: usize>(
        &mut self,
        memory: &mut impl Peek,
        address: u64,
    ) -> Option<[u64; N]> {
        let mut words = [0; N];
        (memory.read_anew(address, &mut words) == N).then_some(())?;
        let place = (address.wrapping_sub(self.start) / 8) as usize;
        if let Some(old) = self.words.get_mut(..self.count).and_then(|known| known.get_mut(place..))
            && let Some(old) = old.first_chunk_mut()
        {
            *old = words;
        }
        Some(words)
    }
}
