//! Who holds a block: the way from a root to it.

use super::{
    mark::{Marked, NONE, ROOT},
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

/// The way from a root to a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where it begins.
    pub root: Via,
    /// Pointers followed, the root's too: 1 for a block that a root points to.
    pub steps: u32,
}

impl Marked {
    /// How a block was reached: a shortest way, unless memory for pointers was short. `None` if it was not reached, or ways
    /// were not recorded.
    #[must_use]
    pub fn path(&self, block: u32) -> Option<Path> {
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

    /// What each root holds: a block counts for the root from which it was reached first. In no order.
    #[must_use]
    pub fn held(&self) -> Vec<(Via, Held)> {
        let mut held = vec![Held::default(); self.roots.len()];
        // The root of each block, once known: its place plus 1.
        let mut known = vec![0_u32; self.parents.len()];
        let mut way = Vec::new();
        for first in 0..self.parents.len() as u32 {
            let mut block = first;
            let root = loop {
                match self.parents.get(block as usize).copied() {
                    None | Some(NONE) => break 0,
                    Some(parent) => {
                        let found = known.get(block as usize).copied().unwrap_or(0);
                        if found != 0 {
                            break found;
                        }
                        way.push(block);
                        if parent & ROOT != 0 {
                            break (parent & !ROOT) + 1;
                        }
                        block = parent;
                    }
                }
                if way.len() > self.parents.len() {
                    break 0;
                }
            };
            for block in way.drain(..) {
                if let Some(place) = known.get_mut(block as usize) {
                    *place = root;
                }
            }
            if let Some(held) = held.get_mut((root as usize).wrapping_sub(1)) {
                held.blocks += 1;
                held.bytes += self.blocks.size(first);
            }
        }
        let roots = self.roots.iter().map(|&root| via(root));
        roots.zip(held).filter(|(_, held)| held.blocks > 0).collect()
    }
}

/// A root as it is recorded.
fn via(root: u64) -> Via {
    if root & EXTRA == 0 { Via::Memory(root) } else { Via::Word((root & !EXTRA) as usize) }
}
