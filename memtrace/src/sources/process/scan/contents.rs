//! The beginnings of blocks.

use std::{
    hash::{Hash as _, Hasher as _},
    io,
};

use rustc_hash::FxHasher;

use crate::{heap::census::Peek as _, sources::process::census::TargetMemory};

/// Words that are read together, where the next block is near.
const WINDOW: usize = 1 << 13;
/// What is compared of a block to see whether it was changed.
const COMPARED: u64 = 256;

/// Reads beginnings of blocks, mostly in order of address. No page is brought in.
pub(super) struct Contents {
    memory: TargetMemory,
    words: Vec<u64>,
    start: u64,
    count: usize,
}

impl Contents {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// It is gone, or access is denied.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        Ok(Self { memory: TargetMemory::open(pid)?, words: vec![0; WINDOW], start: 0, count: 0 })
    }

    /// The first words of a block of `size` bytes, at most so many. `next`: where the one is that is asked for next.
    pub(super) fn words(&mut self, start: u64, size: u64, most: usize, next: Option<u64>) -> &[u64] {
        let wanted = ((size / 8) as usize).clamp(1, most);
        let place = |from: u64| (start.wrapping_sub(from) / 8) as usize;
        let is_there = start >= self.start && place(self.start).saturating_add(wanted) <= self.count;
        if !is_there {
            let is_near =
                next.is_some_and(|next| next > start && next - start < (WINDOW as u64 - COMPARED) * 8);
            let length = if is_near { WINDOW } else { wanted };
            self.start = start;
            self.count = self.memory.read(start, self.words.get_mut(..length).unwrap_or_default());
        }
        let from = place(self.start).min(self.count);
        self.words.get(from..(from + wanted).min(self.count)).unwrap_or_default()
    }

    /// A number that is another one, most probably, once the beginning of a block was changed.
    pub(super) fn hash(&mut self, start: u64, size: u64, next: Option<u64>) -> u64 {
        let mut hasher = FxHasher::default();
        self.words(start, size, (COMPARED / 8) as usize, next).hash(&mut hasher);
        hasher.finish()
    }
}
