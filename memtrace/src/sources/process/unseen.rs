//! What is not traced of a process though it may allocate.

use super::{sites::suspects, traced::Traced};
use crate::{model::ProbeSpec, profile::Remark, target::Module};

/// Functions that are named.
const NAMED: usize = 8;

impl Traced {
    /// Functions that the user named, and that no file defines.
    pub(super) fn not_found(&self) -> Option<Remark> {
        let choice = &self.placement.choice;
        let has = |is_it: &dyn Fn(&str) -> bool| {
            let traced = self.specs.iter().map(|ProbeSpec { function, .. }| function.as_str());
            traced.chain(self.left_out()).any(is_it)
        };
        let is = |known: &str, name: &str| known.split(' ').next() == Some(name);
        let functions = choice.functions.iter().filter(|(name, _)| !has(&|known| is(known, name)));
        let functions = functions.map(|(name, _)| name.clone());
        let prefixes = choice.prefixes.iter().filter(|prefix| !has(&|known| known.starts_with(*prefix)));
        let missing: Vec<String> = functions.chain(prefixes.map(|prefix| format!("{prefix}*"))).collect();
        (!missing.is_empty()).then(|| Remark::FunctionsNotFound { pid: self.pid().get(), functions: missing })
    }

    /// Functions of its files that look like an allocator's and are not traced.
    pub(super) fn untraced_allocators(&self) -> Option<Remark> {
        let choice = &self.placement.choice;
        // What those of C libraries are for is known (`pkey_alloc`).
        let is_libc = |module: &Module| {
            let allocator = module.path().and_then(|path| self.names.get(&path));
            allocator.is_some_and(|name| matches!(name.as_str(), "glibc" | "musl"))
        };
        let files = self.modules.iter().filter(|module| !is_libc(module));
        let found = files.flat_map(|module| {
            let name = module.name.rsplit('/').next().unwrap_or_default();
            suspects(module, choice).into_iter().map(move |function| format!("{function} in {name}"))
        });
        let mut functions: Vec<String> = found.collect();
        let more = functions.len().saturating_sub(NAMED);
        functions.truncate(NAMED);
        let pid = self.pid().get();
        (!functions.is_empty()).then_some(Remark::AllocatorsUntraced { pid, functions, more })
    }
}
