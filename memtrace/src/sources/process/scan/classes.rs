//! Blocks by size, and lost ones by type.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use super::{contents::Contents, names::PointeeNames};
use crate::{
    heap::{Marked, State},
    profile::{Amount, LeakCheck, SizeClass},
};

/// Lost blocks whose types are looked at.
const TYPED: usize = 1 << 20;
/// Different first words of blocks of one size that are told apart.
const MOST_TYPES: usize = 1 << 12;
/// Blocks of a size of which none is lost that are looked at, and sizes of which that is done.
const SAMPLES: usize = 32;
const SAMPLED: usize = 32;
/// Words of a block that are looked at: 64 bytes.
const WORDS: usize = 8;
/// Blocks of each kind that a hint is looked for in.
const HINTED: usize = 8;

/// Blocks of one size.
#[derive(Default)]
struct Size {
    blocks: u64,
    /// Of lost ones, by the word that they begin with, if that is a pointer to something of a file; else 0.
    lost: FxHashMap<u64, Lost>,
    samples: Vec<u64>,
}

#[derive(Default)]
struct Lost {
    blocks: u64,
    directly: u64,
    samples: Vec<u64>,
}

/// All blocks by size.
#[derive(Default)]
pub(super) struct Sizes(FxHashMap<u64, Size>);

impl Sizes {
    /// Counts the blocks, and adds them to the states of `check`. `candidates`: where those begin that are lost, in order.
    pub(super) fn count(
        marked: &Marked,
        candidates: &[u64],
        contents: &mut Contents,
        names: &PointeeNames<'_>,
        check: &mut LeakCheck,
    ) -> Self {
        let blocks = marked.blocks();
        let mut sizes: FxHashMap<u64, Size> = FxHashMap::default();
        let mut next_lost = candidates.iter().copied().enumerate().peekable();
        for (start, block) in blocks.starts().zip(0u32..) {
            let size = blocks.size(block);
            let state = marked.state(block);
            let amount = Amount { bytes: size, blocks: 1 };
            let class = sizes.entry(size).or_default();
            class.blocks += 1;
            while next_lost.next_if(|&(_, lost)| lost < start).is_some() {}
            let lost = next_lost.next_if(|&(_, lost)| lost == start);
            let is_direct = state == State::Lost;
            let Some((place, _)) = lost.filter(|_| is_direct || state == State::IndirectlyLost) else {
                let possibly = state == State::Possibly;
                let sum = if possibly { &mut check.reached.possibly } else { &mut check.reached.reachable };
                *sum = sum.plus(amount);
                keep_sample(&mut class.samples, class.blocks, start);
                continue;
            };
            let sum = if is_direct { &mut check.reached.directly } else { &mut check.reached.indirectly };
            *sum = sum.plus(amount);
            let next = next_lost.peek().map(|&(_, next)| next);
            let first =
                (place < TYPED).then(|| contents.words(start, size, WORDS, next).first().copied()).flatten();
            let key = first.filter(|&word| names.is_in_file(word)).unwrap_or(0);
            let is_known = class.lost.contains_key(&key) || class.lost.len() < MOST_TYPES;
            let kind = class.lost.entry(if is_known { key } else { 0 }).or_default();
            kind.blocks += 1;
            kind.directly += u64::from(is_direct);
            keep_sample(&mut kind.samples, kind.blocks, start);
        }
        Self(sizes)
    }

    /// Whether more than half of the blocks look lost, of more than half of the sizes: a program may lose most blocks of some
    /// sizes, but hardly of most.
    pub(super) fn is_doubtful(&self) -> bool {
        let lost = |size: &Size| size.lost.values().map(|lost| lost.blocks).sum::<u64>();
        let (blocks, all_lost) =
            self.0.values().fold((0, 0), |(blocks, sum), size| (blocks + size.blocks, sum + lost(size)));
        let mostly = self.0.values().filter(|size| lost(size) * 2 > size.blocks).count();
        all_lost * 2 > blocks && mostly * 2 > self.0.len()
    }

    /// The classes: what has lost most first, then what holds most. `texts`: whether texts may be shown.
    pub(super) fn classes(
        self,
        contents: &mut Contents,
        names: &mut PointeeNames<'_>,
        texts: bool,
    ) -> Vec<SizeClass> {
        let mut classes = Vec::new();
        let mut rest = Vec::new();
        for (size, Size { blocks, lost, samples }) in self.0 {
            if lost.is_empty() {
                rest.push((SizeClass { size, blocks, ..SizeClass::default() }, samples));
                continue;
            }
            // Several vtables, or none that is known, may be of one type.
            let mut by_type: FxHashMap<Option<String>, Lost> = FxHashMap::default();
            for (word, lost) in lost {
                let kind = by_type.entry(names.type_name(word)).or_default();
                kind.blocks += lost.blocks;
                kind.directly += lost.directly;
                kind.samples.extend(lost.samples);
            }
            classes.extend(by_type.into_iter().map(|(type_name, lost)| {
                let hint = hint(&lost.samples, size, contents, names, texts);
                SizeClass { size, blocks, lost: lost.blocks, directly: lost.directly, type_name, hint }
            }));
        }
        rest.sort_by_key(|(class, _)| Reverse((class.bytes(), class.size)));
        for (class, samples) in rest.iter_mut().take(SAMPLED) {
            class.type_name = common_type(samples, class.size, contents, names);
            class.hint = hint(samples, class.size, contents, names, texts);
        }
        classes.sort_by(|a, b| {
            let key = |class: &SizeClass| Reverse((class.lost_bytes(), class.bytes(), class.size));
            key(a).cmp(&key(b)).then_with(|| a.type_name.cmp(&b.type_name))
        });
        classes.extend(rest.into_iter().map(|(class, _)| class));
        classes
    }
}

/// Keeps some of the blocks seen, from all over the heap: of twice as many every other one.
fn keep_sample(samples: &mut Vec<u64>, seen: u64, start: u64) {
    let every = (seen / SAMPLES as u64 + 1).next_power_of_two();
    if !seen.is_multiple_of(every) && seen > 1 {
        return;
    }
    if samples.len() >= 2 * SAMPLES {
        let mut keep = true;
        samples.retain(|_| {
            keep = !keep;
            keep
        });
    }
    samples.push(start);
}

/// What one of some blocks holds.
fn hint(
    samples: &[u64],
    size: u64,
    contents: &mut Contents,
    names: &mut PointeeNames<'_>,
    texts: bool,
) -> Option<crate::profile::Hint> {
    let mut looked_at = samples.iter().take(HINTED);
    looked_at.find_map(|&start| names.hint(contents.words(start, size, WORDS, None), texts))
}

/// The type of most of some blocks.
fn common_type(
    samples: &[u64],
    size: u64,
    contents: &mut Contents,
    names: &mut PointeeNames<'_>,
) -> Option<String> {
    let mut counts: FxHashMap<String, usize> = FxHashMap::default();
    for &start in samples {
        let word = contents.words(start, size, 1, None).first().copied();
        if let Some(name) = word.and_then(|word| names.type_name(word)) {
            *counts.entry(name).or_default() += 1;
        }
    }
    let (name, count) = counts.into_iter().max_by(|a, b| a.1.cmp(&b.1).then_with(|| b.0.cmp(&a.0)))?;
    (count * 2 > samples.len()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::{SAMPLES, keep_sample};

    #[test]
    fn samples_are_from_all_over() {
        let mut samples = Vec::new();
        for start in 1..=100_000 {
            keep_sample(&mut samples, start, start);
        }
        assert!((SAMPLES / 2..=2 * SAMPLES).contains(&samples.len()), "{}", samples.len());
        assert!(samples.iter().filter(|&&start| start > 50_000).count() > SAMPLES / 4, "{samples:?}");
        assert!(samples.iter().filter(|&&start| start < 50_000).count() > SAMPLES / 4, "{samples:?}");
        let mut one = Vec::new();
        keep_sample(&mut one, 1, 7);
        assert_eq!(one, [7]);
    }
}
