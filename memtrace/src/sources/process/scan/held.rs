//! What holds most of the blocks that can be reached.

use rustc_hash::FxHashMap;

use crate::{
    heap::{Held, Marked, Via},
    profile::{Amount, HeldBytes, Root},
    sources::process::leaks::owners::{Words, readable},
    target::roots::RootNames,
};

/// What is listed at most.
const LISTED: usize = 16;

/// The roots that hold most, those of one variable, thread or mapping together: a table may have millions.
pub(super) fn holders(marked: &Marked, words: &Words, names: &RootNames) -> Vec<HeldBytes> {
    let mut by_root: FxHashMap<Root, Held> = FxHashMap::default();
    // Roots are in order of address: of one variable one after another.
    let mut current: Option<(Root, u64, Held)> = None;
    for (via, held) in marked.held() {
        if let (Via::Memory(address), Some((_, until, sum))) = (via, &mut current)
            && address < *until
        {
            sum.add(held);
            continue;
        }
        let (root, until) = match via {
            Via::Memory(address) => {
                let (root, until) = names.name_until(address);
                (root.whole().rename(readable), until)
            }
            Via::Word(place) => (words.root(place, names), 0),
        };
        if let Some((root, _, held)) = current.replace((root, until, held)) {
            by_root.entry(root).or_default().add(held);
        }
    }
    if let Some((root, _, held)) = current {
        by_root.entry(root).or_default().add(held);
    }
    let mut holders: Vec<HeldBytes> = by_root
        .into_iter()
        .map(|(root, Held { blocks, bytes })| HeldBytes { root, held: Amount { bytes, blocks } })
        .collect();
    holders.sort_by(|a, b| b.held.bytes.cmp(&a.held.bytes).then_with(|| a.root.cmp(&b.root)));
    holders.truncate(LISTED);
    holders
}
