//! Scans of memories made up for the purpose.

mod oracle;
mod shapes;
mod young;

use std::{collections::BTreeMap, ops::Range};

use super::{Between, Blocks, Collected, Holders, How, Marked, Memory, Refused, scan};

/// Words at addresses; whatever is between them is zero.
#[derive(Clone, Default)]
pub(super) struct Words {
    pub(super) ranges: Vec<Range<u64>>,
    pub(super) words: BTreeMap<u64, u64>,
    /// What it is between blocks; roots where that is not said.
    pub(super) between: Vec<(Range<u64>, Between)>,
}

impl Words {
    pub(super) fn new(ranges: &[Range<u64>]) -> Self {
        Self { ranges: ranges.to_vec(), ..Self::default() }
    }

    pub(super) fn put(&mut self, at: u64, word: u64) {
        self.words.insert(at, word);
    }
}

impl Memory for Words {
    fn next(&mut self, from: u64) -> Option<Range<u64>> {
        let range = self.ranges.iter().find(|range| range.end > from)?;
        let start = range.start.max(from);
        Some(start..range.end.min(start + (1 << 20)))
    }

    fn read(&mut self, address: u64, words: &mut [u64]) -> usize {
        words.fill(0);
        for (&at, &word) in self.words.range(address..address + words.len() as u64 * 8) {
            words[((at - address) / 8) as usize] = word;
        }
        words.len()
    }

    fn between(&mut self, part: &Range<u64>) -> Between {
        let known = self.between.iter().find(|(range, _)| range.contains(&part.start));
        known.map_or(Between::Roots, |(_, between)| *between)
    }
}

pub(super) fn blocks(all: &[(u64, u64)]) -> Blocks {
    let mut collected = Collected::new();
    all.iter().for_each(|&(address, size)| collected.add(address, size));
    collected.finish().unwrap()
}

pub(super) fn marked(memory: &Words, all: &[(u64, u64)], extra: &[u64]) -> Marked {
    try_marked(memory, all, extra, How { holders: Holders::Paths, ..How::default() }).unwrap()
}

pub(super) fn try_marked(
    memory: &Words,
    all: &[(u64, u64)],
    extra: &[u64],
    how: How,
) -> Result<Marked, Refused> {
    try_scan(memory, blocks(all), extra, how)
}

/// No word in free memory is a root.
pub(super) fn try_scan(memory: &Words, blocks: Blocks, extra: &[u64], how: How) -> Result<Marked, Refused> {
    Ok(scan(&mut memory.clone(), blocks, extra, how)?.decide(|_, _| false))
}

/// How many blocks are lost.
pub(super) fn lost(marked: &Marked) -> usize {
    (0..marked.blocks().len() as u32).filter(|&block| marked.is_lost(block)).count()
}
