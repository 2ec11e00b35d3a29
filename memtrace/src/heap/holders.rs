//! Who holds a block: the way from a root to it.

use super::{
    mark::{Holders, Marked, NONE, ROOT},
    scan::EXTRA,
};

/// The most steps that are followed.
const MAX_STEPS: u32 = 1 << 24;

/// The root at which the way to a block begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Via {
    /// The word at this address.
    Memory(u64),
    /// The word with this place among those that were given besides memory.
    Word(usize),
}

/// Blocks, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// How many.
    pub blocks: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Held {
    /// Adds what another root holds.
    pub fn add(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

/// The way from a root to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it begins.
    pub root: Via,
    /// Pointers followed, the root's too: 1 for a block that a root points to.
    pub steps: u32,
}

impl Marked {
    /// How a block was reached: a shortest way, unless memory for pointers was short. `None` if it was not reached, or paths
    /// were not recorded.
    #[must_use]
    pub fn path(&self, block: u32) -> Option<Path> {
        if self.holders != Holders::Paths {
            return None;
        }
        let mut block = block;
        for steps in 1..MAX_STEPS {
            let parent = *self.parents.get(block as usize)?;
            if parent == NONE {
                return None;
            }
            if parent & ROOT != 0 {
                let root = via(*self.roots.get((parent & !ROOT) as usize)?);
                return Some(Path { root, steps });
            }
            block = parent;
        }
        None
    }

    /// What each root holds, if roots were recorded, in order of their addresses: a block counts for the root from which it
    /// was reached first.
    pub fn held(&self) -> impl Iterator<Item = (Via, Held)> {
        let parents = if self.holders == Holders::Roots { self.parents.as_slice() } else { &[] };
        let mut held = vec![Held::default(); self.roots.len()];
        for (parent, block) in parents.iter().zip(0u32..) {
            // What was not reached has a number that no root has.
            if let Some(held) = held.get_mut((parent & !ROOT) as usize) {
                held.blocks += 1;
                held.bytes += self.blocks.size(block);
            }
        }
        let root = |place: u32| self.roots.get(place as usize).copied().unwrap_or_default();
        let mut order: Vec<u32> = (0..self.roots.len() as u32).collect();
        order.sort_unstable_by_key(|&place| root(place));
        order.into_iter().filter_map(move |place| {
            let held = *held.get(place as usize).filter(|held| held.blocks > 0)?;
            Some((via(root(place)), held))
        })
    }
}

/// A root as it is recorded.
fn via(root: u64) -> Via {
    if root & EXTRA == 0 { Via::Memory(root) } else { Via::Word((root & !EXTRA) as usize) }
}
