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
                let root = *self.roots.get((parent & !ROOT) as usize)?;
                let root =
                    if root & EXTRA == 0 { Via::Memory(root) } else { Via::Word((root & !EXTRA) as usize) };
                return Some(Path { root, steps });
            }
            block = parent;
        }
        None
    }
}
