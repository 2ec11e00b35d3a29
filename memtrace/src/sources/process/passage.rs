//! Stacks that go through an allocator's own functions.
//!
//! Where calls are left out (sampled, or by size) and not even put in flight, the kernel side cannot know what is nested
//! in them. The stack tells: a block allocated inside an allocating function is that function's business, and memory
//! mapped inside one is the allocator's.

use std::{ops::Range, path::PathBuf, sync::Arc};

use crate::{
    model::FunctionCode,
    target::{Location, Module},
};

/// Frames looked at: allocators are not deep.
const FRAMES: usize = 12;

/// What a stack goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passage {
    /// An allocator: what is mapped there is for blocks.
    pub(super) allocator: bool,
    /// A function that allocates, and returns what it gets there: the same block twice.
    pub(super) nested: bool,
}

/// Code of the allocators of a process.
#[derive(Default)]
pub(super) struct AllocatorCode {
    files: Vec<(Arc<Module>, Vec<FunctionCode>, bool)>,
}

impl AllocatorCode {
    /// Adds a file's functions; `alone`: there is nothing else in it.
    pub(super) fn add(&mut self, module: &Arc<Module>, code: Vec<FunctionCode>, alone: bool) {
        self.files.push((Arc::clone(module), code, alone));
    }

    /// Removes the functions of files, by the paths at which the agent opens them.
    pub(super) fn remove(&mut self, files: &[PathBuf]) {
        self.files.retain(|(module, ..)| module.path().is_none_or(|path| !files.contains(&path)));
    }

    /// What a stack goes through, by its innermost frames.
    pub(super) fn passage(&self, places: &[Location]) -> Passage {
        let mut passage = Passage::default();
        for place in places.iter().take(FRAMES) {
            for (module, code, alone) in &self.files {
                if !module.is_same(&place.module) {
                    continue;
                }
                let inside = |function: &&FunctionCode| contains(&function.range, place);
                passage.allocator |= *alone || code.iter().any(|function| inside(&function));
                passage.nested |= code.iter().filter(inside).any(|function| function.allocates);
            }
        }
        passage
    }
}

/// A return address may lie just behind the function, if its last instruction is a call.
fn contains(range: &Range<u64>, place: &Location) -> bool {
    range.contains(&place.address.saturating_sub(u64::from(place.is_return)))
}
