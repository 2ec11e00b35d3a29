//! Stacks whose frames have arrived, and which of them are one.
//!
//! Where libraries come and go, the kernel side counts a stack anew after each unloading, since its addresses may mean
//! other code. Those that turn out to be of the same code are one stack for the reader.
//!
//! Frames are what takes the agent's memory: 24 bytes each, and a stack may have 511. There is a limit to them all.

use std::{
    hash::{Hash as _, Hasher as _},
    sync::Arc,
};

use memtrace_common::Target;
use rustc_hash::{FxHashMap, FxHasher};

use super::passage::Passage;
use crate::target::Location;

/// A stack whose frames have arrived.
pub(super) struct Stack {
    pub(super) places: Arc<[Location]>,
    pub(super) incomplete: Option<&'static str>,
    pub(super) target: u32,
    pub(super) hash: u64,
    /// Which functions of allocators it goes through.
    pub(super) passage: Passage,
    /// Whether `--trace` has shown its frames.
    pub(super) shown: bool,
}

/// Frames kept of all stacks, about 100 MiB. Stacks that come later keep their innermost ones.
const MAX_FRAMES: usize = 1 << 22;

/// Frames kept of each stack from there on, up to a quarter more in all.
const FEW: usize = 16;

/// Why stacks are incomplete whose frames were not all kept, as scripts see it.
const NOT_KEPT: &str = "frames_not_kept";

/// Every stack, by its slot in the kernel side's table.
pub(super) struct Stacks {
    by_slot: FxHashMap<u32, Stack>,
    /// Frames in it.
    frames: usize,
    /// Frames kept whole.
    limit: usize,
    /// The first slot of each, among those taken after an unloading, by hash of what makes two stacks one.
    first: FxHashMap<u64, u32>,
    same_as: FxHashMap<u32, u32>,
}

impl Default for Stacks {
    fn default() -> Self {
        Self {
            by_slot: FxHashMap::default(),
            frames: 0,
            limit: MAX_FRAMES,
            first: FxHashMap::default(),
            same_as: FxHashMap::default(),
        }
    }
}

impl Stacks {
    /// Takes a stack in. `again`: it may be one that was counted before under another slot.
    pub(super) fn insert(&mut self, slot: u32, mut stack: Stack, again: bool) {
        if again {
            let first = *self.first.entry(stack.code()).or_insert(slot);
            if first != slot && self.by_slot.get(&first).is_some_and(|other| other.is_same(&stack)) {
                self.same_as.insert(slot, first);
                // They are the first one's.
                stack.places = Arc::default();
            }
        }
        self.bound(&mut stack);
        self.frames += stack.places.len();
        if let Some(before) = self.by_slot.insert(slot, stack) {
            self.frames -= before.places.len();
        }
    }

    /// Cuts a stack for which there is no room.
    fn bound(&self, stack: &mut Stack) {
        let room = if self.frames + stack.places.len() <= self.limit {
            return;
        } else if self.frames + FEW <= self.limit + self.limit / 4 {
            FEW
        } else {
            0
        };
        if stack.places.len() > room {
            stack.places = stack.places.get(..room).unwrap_or_default().into();
            stack.incomplete = Some(NOT_KEPT);
        }
    }

    /// Forgets the stacks of programs that a target ran before.
    pub(super) fn forget_past(&mut self, target: u32) {
        let is_past =
            |stack: &Stack| Target::index(stack.target) == Target::index(target) && stack.target != target;
        let frames = &mut self.frames;
        self.by_slot.retain(|_, stack| {
            if is_past(stack) {
                *frames -= stack.places.len();
            }
            !is_past(stack)
        });
        let by_slot = &self.by_slot;
        self.first.retain(|_, slot| by_slot.contains_key(slot));
        self.same_as.retain(|slot, _| by_slot.contains_key(slot));
    }

    /// The slot under which a stack is reported.
    pub(super) fn reported_as(&self, slot: u32) -> u32 {
        self.same_as.get(&slot).copied().unwrap_or(slot)
    }

    /// A stack's frames; none when they have not arrived.
    pub(super) fn places(&self, slot: u32) -> Arc<[Location]> {
        self.by_slot.get(&slot).map_or_else(|| Arc::from([]), |stack| Arc::clone(&stack.places))
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Stack> {
        self.by_slot.get(&slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Stack> {
        self.by_slot.get_mut(&slot)
    }
}

impl Stack {
    /// What makes two stacks one: target, end, and each frame's module and address.
    fn identity(&self) -> impl Iterator<Item = (usize, u64, bool)> {
        self.places.iter().map(|place| (Arc::as_ptr(&place.module) as usize, place.address, place.is_return))
    }

    fn code(&self) -> u64 {
        let mut hasher = FxHasher::default();
        (self.target, self.incomplete).hash(&mut hasher);
        self.identity().for_each(|frame| frame.hash(&mut hasher));
        hasher.finish()
    }

    fn is_same(&self, other: &Self) -> bool {
        (self.target, self.incomplete) == (other.target, other.incomplete)
            && self.identity().eq(other.identity())
    }
}

#[cfg(test)]
mod tests {
    use super::{FEW, NOT_KEPT, Stack, Stacks};
    use crate::{
        app::passage::Passage,
        target::{FileStore, Modules},
    };

    fn stack(target: u32, depth: u64) -> Stack {
        let modules =
            Modules::read(std::process::id(), &FileStore::default().into()).expect("this process's mappings");
        Stack {
            places: (0..depth).map(|frame| modules.unknown(frame, true)).collect(),
            incomplete: None,
            target,
            hash: 1,
            passage: Passage::default(),
            shown: false,
        }
    }

    #[test]
    fn frames_are_bounded() {
        let mut stacks = Stacks { limit: 1000, ..Stacks::default() };
        for slot in 0..100 {
            stacks.insert(slot, stack(0, 100), false);
        }
        assert!(stacks.frames <= 1250, "{}", stacks.frames);
        let kept = |slot| stacks.get(slot).map(|stack| (stack.places.len(), stack.incomplete));
        assert_eq!(kept(9), Some((100, None)));
        assert_eq!(kept(10), Some((FEW, Some(NOT_KEPT))));
        assert_eq!(kept(99), Some((0, Some(NOT_KEPT))));
    }

    #[test]
    fn frames_of_programs_before_are_given_up() {
        let mut stacks = Stacks::default();
        for (slot, target) in [(1, 0), (2, 0x100), (3, 0x200), (4, 0x001)] {
            stacks.insert(slot, stack(target, 10), true);
        }
        // Sent twice.
        stacks.insert(3, stack(0x200, 10), true);
        stacks.forget_past(0x200);
        let left: Vec<u32> = (1..5).filter(|&slot| stacks.get(slot).is_some()).collect();
        assert_eq!((left, stacks.frames), (vec![3, 4], 20));
    }

    #[test]
    fn stacks_of_the_same_code_are_one() {
        let modules =
            Modules::read(std::process::id(), &FileStore::default().into()).expect("this process's mappings");
        let of = |addresses: &[u64]| Stack {
            places: addresses.iter().map(|&address| modules.unknown(address, true)).collect(),
            ..stack(0, 0)
        };
        let mut stacks = Stacks::default();
        stacks.insert(1, of(&[5, 6]), true);
        stacks.insert(2, of(&[5, 7]), true);
        stacks.insert(3, of(&[5, 6]), true);
        assert_eq!([1, 2, 3].map(|slot| stacks.reported_as(slot)), [1, 2, 1]);
        assert_eq!(stacks.frames, 4);
    }
}
