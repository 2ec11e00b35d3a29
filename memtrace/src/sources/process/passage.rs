//! Stacks that go through an allocator's own functions.
//!
//! If calls are left out (by sampling or by size) without being put in flight, the kernel side cannot know what is nested
//! in them. The stack shows it: a block allocated inside an allocating function is part of that call, and memory
//! mapped inside one is the allocator's.

use std::{ops::Range, path::PathBuf, sync::Arc};

use crate::{
    model::FunctionCode,
    target::{Location, Module},
};

/// Frames examined: allocators are not deep.
const FRAMES: usize = 12;

/// What a stack goes through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Passage {
    /// Whether it goes through an allocator: memory mapped there is for blocks.
    pub(super) allocator: bool,
    /// Whether it goes through a function that allocates and returns the block it gets: the same block twice.
    pub(super) nested: bool,
    /// Whether it creates a thread: memory mapped there is the thread's stack.
    pub(super) thread: bool,
}

/// Code of the allocators of a process.
#[derive(Default)]
pub(super) struct AllocatorCode {
    files: Vec<(Arc<Module>, Vec<FunctionCode>, bool)>,
    /// Functions that create threads.
    threads: Vec<(Arc<Module>, Vec<Range<u64>>)>,
}

/// Functions that create threads. In C libraries `thrd_create` calls the same code.
const CREATE: [&str; 2] = ["pthread_create", "__pthread_create"];
/// Files that have them, by the beginnings of their names: glibc before 2.34 has a library for threads.
const THREADS: [&str; 4] = ["libc.", "libc-", "libpthread", "ld-musl"];

impl AllocatorCode {
    /// Adds a file's functions; `alone`: the file contains nothing else.
    pub(super) fn add(&mut self, module: &Arc<Module>, code: Vec<FunctionCode>, alone: bool) {
        self.files.push((Arc::clone(module), code, alone));
    }

    /// Adds a file's functions that create threads, if it is a C library or, statically linked, contains one.
    pub(super) fn add_threads(&mut self, module: &Arc<Module>, has_allocator: bool) {
        let name = module.name.rsplit('/').next().unwrap_or_default();
        let is_library = name.contains(".so");
        let is_wanted =
            if is_library { THREADS.iter().any(|begin| name.starts_with(begin)) } else { has_allocator };
        let known = self.threads.iter().any(|(of, _)| of.is_same(module));
        let Some(image) = module.image().filter(|_| is_wanted && !known) else { return };
        let functions = image.symbols(&CREATE).unwrap_or_default();
        let ranges: Vec<_> = functions
            .iter()
            .map(|function| function.address..function.address.saturating_add(function.size))
            .collect();
        if !ranges.is_empty() {
            self.threads.push((Arc::clone(module), ranges));
        }
    }

    /// Removes the functions of files, by the paths at which the agent opens them.
    pub(super) fn remove(&mut self, files: &[PathBuf]) {
        let stays = |module: &Module| module.path().is_none_or(|path| !files.contains(&path));
        self.files.retain(|(module, ..)| stays(module));
        self.threads.retain(|(module, _)| stays(module));
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
            passage.thread |= self.threads.iter().any(|(module, code)| {
                module.is_same(&place.module) && code.iter().any(|range| contains(range, place))
            });
        }
        passage
    }
}

/// A return address may be one byte past the function, if its last instruction is a call.
fn contains(range: &Range<u64>, place: &Location) -> bool {
    range.contains(&place.address.saturating_sub(u64::from(place.is_return)))
}
