//! Files that a target is known by their paths to have been probed in. A path is a descriptor's, so it is another file's as
//! soon as the file is closed: whoever remembers one holds the file.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{traced::Traced, untraced::Part};
use crate::target::Module;

/// Files by the paths at which the agent opens them.
#[derive(Debug, Default)]
pub(super) struct HeldFiles(FxHashMap<PathBuf, Arc<Module>>);

impl HeldFiles {
    /// Adds a file; whether it was not there yet.
    pub(super) fn insert(&mut self, path: PathBuf, module: &Arc<Module>) -> bool {
        self.0.insert(path, Arc::clone(module)).is_none()
    }

    pub(super) fn remove(&mut self, path: &Path) -> bool {
        self.0.remove(path).is_some()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Gives up all files but those whose paths somebody needs.
    pub(super) fn keep(&mut self, is_needed: impl Fn(&Path) -> bool) {
        self.0.retain(|path, _| is_needed(path));
    }

    /// Files that were the same one before it was rewritten in place.
    pub(super) fn earlier(&self, module: &Module) -> Vec<PathBuf> {
        let inode = |module: &Module| module.file().map(|file| file.id().inode);
        let is_earlier = |other: &Module| inode(other) == inode(module) && !other.is_same(module);
        self.0.iter().filter(|(_, other)| is_earlier(other)).map(|(path, _)| path.clone()).collect()
    }
}

impl Traced {
    /// Gives up files that are mapped no more, unless something of them is still known by their paths.
    pub(super) fn forget_unmapped(&mut self) {
        let mapped: FxHashSet<PathBuf> = self.modules.iter().filter_map(|module| module.path()).collect();
        let Self { specs, untraced, probed, .. } = self;
        probed.keep(|path| {
            mapped.contains(path)
                || specs.iter().any(|spec| spec.file == path)
                || untraced.knows(&Part::File(path.to_owned()))
        });
    }

    /// Forgets what was probed in a file before it was rewritten in place; whether there was anything. Its probes go where
    /// all are attached anew.
    pub(super) fn forget_earlier(&mut self, module: &Module) -> bool {
        let earlier = self.probed.earlier(module);
        let before = self.specs.len();
        self.specs.retain(|spec| !earlier.contains(&spec.file));
        self.names.retain(|path, _| !earlier.contains(path));
        self.code.remove(&earlier);
        self.specs.len() < before
    }
}
