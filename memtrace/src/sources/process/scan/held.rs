//! What holds most of the blocks that can be reached.

use std::cmp::Reverse;

use rustc_hash::FxHashMap;

use crate::{
    heap::{Held, Marked, Via},
    profile::{Amount, HeldBytes, Root},
    sources::process::leaks::owners::{Words, readable},
    target::roots::RootNames,
};

/// Roots that are named: those that hold most. The others hold little, each.
const NAMED: usize = 1 << 12;
/// What is listed at most.
const LISTED: usize = 16;

/// The roots that hold most, those of one variable, thread or mapping together.
pub(super) fn holders(marked: &Marked, words: &Words, names: &RootNames) -> Vec<HeldBytes> {
    let mut held = marked.held();
    held.sort_by_key(|(via, held)| (Reverse(held.bytes), *via));
    let mut by_root: FxHashMap<Root, Held> = FxHashMap::default();
    for (via, Held { blocks, bytes }) in held.into_iter().take(NAMED) {
        let root = match via {
            Via::Memory(address) => names.name(address).whole().rename(readable),
            Via::Word(place) => words.root(place, names),
        };
        let sum = by_root.entry(root).or_default();
        sum.blocks += blocks;
        sum.bytes += bytes;
    }
    let mut holders: Vec<HeldBytes> = by_root
        .into_iter()
        .map(|(root, Held { blocks, bytes })| HeldBytes { root, held: Amount { bytes, blocks } })
        .collect();
    holders.sort_by(|a, b| b.held.bytes.cmp(&a.held.bytes).then_with(|| a.root.cmp(&b.root)));
    holders.truncate(LISTED);
    holders
}
