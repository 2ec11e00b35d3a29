//! Stacks whose frames have arrived, and which of them are the same.
//!
//! If libraries come and go, the kernel side counts a stack separately after each unloading, since its addresses may mean
//! other code. Those that turn out to be the same code are one stack in reports.
//!
//! The frames are in the session's dictionary: 4 bytes each, and a stack may have 511. Their number is limited, and so is
//! the number of places that they name.

use memtrace_common::Target;
use rustc_hash::FxHashMap;

use super::passage::Passage;
use crate::{
    profile::{Reason, StackId},
    session::Names,
    target::Location,
};

/// A stack whose frames have arrived.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stack {
    pub(super) id: StackId,
    pub(super) incomplete: Option<Reason>,
    pub(super) target: u32,
    pub(super) hash: u64,
    /// Which functions of allocators it goes through.
    pub(super) passage: Passage,
    /// Whether `--trace` has shown its frames.
    pub(super) shown: bool,
}

/// A stack that has just arrived.
pub(super) struct Arrival {
    pub(super) slot: u32,
    pub(super) incomplete: Option<Reason>,
    pub(super) target: u32,
    pub(super) hash: u64,
    pub(super) passage: Passage,
    /// Whether it may have been counted before under another slot.
    pub(super) again: bool,
}

/// The most frames kept of all stacks, 16 MiB. Later stacks keep their innermost frames only.
const MAX_FRAMES: usize = 1 << 22;

/// The most places in code that are kept, about 100 MiB.
const MAX_PLACES: usize = 1 << 20;

/// Frames kept of each stack beyond that, up to a quarter more in total.
const FEW: usize = 16;

/// Every stack, by its slot in the kernel side's table.
pub(super) struct Stacks {
    by_slot: FxHashMap<u32, Stack>,
    /// Frames of all stacks: shared ones count for each.
    frames: usize,
    /// Frames kept whole.
    limit: usize,
    /// The first slot of each stack.
    first: FxHashMap<(StackId, u32), u32>,
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
    /// Adds a stack.
    pub(super) fn insert(&mut self, names: &mut Names, arrival: Arrival, places: &[Location]) {
        let Arrival { slot, mut incomplete, target, hash, passage, again } = arrival;
        let room = self.room(places.len(), names.dictionary().locations());
        let kept = places.get(..room).unwrap_or(places);
        if kept.len() < places.len() {
            incomplete = Some(Reason::FramesNotKept);
        }
        let id = names.add_stack(kept, incomplete);
        let first = *self.first.entry((id, target)).or_insert(slot);
        if again && first != slot {
            self.same_as.insert(slot, first);
        }
        self.frames += kept.len();
        let stack = Stack { id, incomplete, target, hash, passage, shown: false };
        if let Some(before) = self.by_slot.insert(slot, stack) {
            self.release(names, &before);
        }
    }

    /// How many of a stack's frames there is room for.
    fn room(&self, frames: usize, places: usize) -> usize {
        if places + frames > MAX_PLACES {
            0
        } else if self.frames + frames <= self.limit {
            frames
        } else if self.frames + FEW <= self.limit + self.limit / 4 {
            FEW
        } else {
            0
        }
    }

    fn release(&mut self, names: &mut Names, stack: &Stack) {
        self.frames -= names.dictionary().frames(stack.id).len();
        names.release_stack(stack.id);
    }

    /// Forgets the stacks of programs that a target ran before.
    pub(super) fn forget_past(&mut self, names: &mut Names, target: u32) {
        let is_past =
            |stack: &Stack| Target::index(stack.target) == Target::index(target) && stack.target != target;
        let past: Vec<Stack> =
            self.by_slot.extract_if(|_, stack| is_past(stack)).map(|(_, stack)| stack).collect();
        for stack in past {
            self.release(names, &stack);
        }
        let by_slot = &self.by_slot;
        self.first.retain(|_, slot| by_slot.contains_key(slot));
        self.same_as.retain(|slot, _| by_slot.contains_key(slot));
    }

    /// The slot under which a stack is reported.
    pub(super) fn reported_as(&self, slot: u32) -> u32 {
        self.same_as.get(&slot).copied().unwrap_or(slot)
    }

    pub(super) fn get(&self, slot: u32) -> Option<&Stack> {
        self.by_slot.get(&slot)
    }

    pub(super) fn get_mut(&mut self, slot: u32) -> Option<&mut Stack> {
        self.by_slot.get_mut(&slot)
    }
}

#[cfg(test)]
mod tests {
    use super::{Arrival, FEW, Stacks};
    use crate::{
        profile::Reason,
        session::Names,
        sources::process::passage::Passage,
        target::{FileStore, Modules},
    };

    fn arrival(slot: u32, target: u32, again: bool) -> Arrival {
        Arrival { slot, incomplete: None, target, hash: 1, passage: Passage::default(), again }
    }

    fn stacks(limit: usize) -> (Stacks, Names) {
        (Stacks { limit, ..Stacks::default() }, Names::new(None))
    }

    fn insert(stacks: &mut Stacks, names: &mut Names, arrival: Arrival, addresses: &[u64]) {
        let store = FileStore::default().into();
        let modules = Modules::read(std::process::id(), &store).expect("this process's mappings");
        let places: Vec<_> = addresses.iter().map(|&address| modules.unknown(address, true)).collect();
        stacks.insert(names, arrival, &places);
    }

    #[test]
    fn frames_are_bounded() {
        let (mut stacks, mut names) = stacks(1000);
        for slot in 0..100 {
            let addresses: Vec<u64> = (0..100).map(|frame| u64::from(slot) << 8 | frame).collect();
            insert(&mut stacks, &mut names, arrival(slot, 0, false), &addresses);
        }
        assert!(stacks.frames <= 1250, "{}", stacks.frames);
        let kept = |slot| {
            let stack = stacks.get(slot).unwrap();
            (names.dictionary().frames(stack.id).len(), stack.incomplete)
        };
        assert_eq!(kept(9), (100, None));
        assert_eq!(kept(10), (FEW, Some(Reason::FramesNotKept)));
        assert_eq!(kept(99), (0, Some(Reason::FramesNotKept)));
    }

    #[test]
    fn frames_of_programs_before_are_given_up() {
        let (mut stacks, mut names) = stacks(1000);
        for (slot, target) in [(1, 0), (2, 0x100), (3, 0x200), (4, 0x001)] {
            let addresses: Vec<u64> = (0..10).map(|frame| u64::from(slot) << 8 | frame).collect();
            insert(&mut stacks, &mut names, arrival(slot, target, true), &addresses);
        }
        // Sent twice.
        let addresses: Vec<u64> = (0..10).map(|frame| 3 << 8 | frame).collect();
        insert(&mut stacks, &mut names, arrival(3, 0x200, true), &addresses);
        let gone = stacks.get(1).unwrap().id;
        stacks.forget_past(&mut names, 0x200);
        let left: Vec<u32> = (1..5).filter(|&slot| stacks.get(slot).is_some()).collect();
        assert_eq!((left, stacks.frames), (vec![3, 4], 20));
        assert_eq!(names.dictionary().frames(gone), []);
    }

    #[test]
    fn stacks_of_the_same_code_are_one() {
        let (mut stacks, mut names) = stacks(1000);
        for (slot, addresses) in [(1, [5, 6]), (2, [5, 7]), (3, [5, 6])] {
            insert(&mut stacks, &mut names, arrival(slot, 0, true), &addresses);
        }
        assert_eq!([1, 2, 3].map(|slot| stacks.reported_as(slot)), [1, 2, 1]);
        assert_eq!(stacks.get(1).unwrap().id, stacks.get(3).unwrap().id);
    }
}
