//! Stacks whose frames have arrived, and which of them are one.
//!
//! Where libraries come and go, the kernel side counts a stack anew after each unloading, since its addresses may mean
//! other code. Those that turn out to be of the same code are one stack for the reader.

use std::sync::Arc;

use rustc_hash::FxHashMap;

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

/// What makes two stacks one: target, end, and each frame's module and address.
type Identity = (u32, Option<&'static str>, Vec<(usize, u64, bool)>);

/// Every stack, by its slot in the kernel side's table.
#[derive(Default)]
pub(super) struct Stacks {
    by_slot: FxHashMap<u32, Stack>,
    /// The first slot of each, among those taken after an unloading.
    first: FxHashMap<Identity, u32>,
    same_as: FxHashMap<u32, u32>,
}

impl Stacks {
    /// Takes a stack in. `again`: it may be one that was counted before under another slot.
    pub(super) fn insert(&mut self, slot: u32, stack: Stack, again: bool) {
        if again {
            let frame =
                |place: &Location| (Arc::as_ptr(&place.module) as usize, place.address, place.is_return);
            let identity = (stack.target, stack.incomplete, stack.places.iter().map(frame).collect());
            let first = *self.first.entry(identity).or_insert(slot);
            if first != slot {
                self.same_as.insert(slot, first);
            }
        }
        self.by_slot.insert(slot, stack);
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
