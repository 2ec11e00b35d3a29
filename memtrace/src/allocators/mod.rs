//! Floor 2: which allocator a file contains, and what to probe in it.

mod choice;
mod functions;
mod names;
mod specs;
mod suspects;
mod table;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::elf::{self, Image};
use crate::model::{FunctionCode, ProbeSpec, Results, Role};

pub use choice::{Choice, parse_allocating, parse_freeing, parse_prefix};
use names::Names;
use specs::Specs;
pub use suspects::suspects;

/// Which allocating functions get a return probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReturnProbes {
    /// Those that are left by returning only.
    #[default]
    Safe,
    /// Of these, those whose exits could not be determined: for a target that reads its own stack.
    Fewest,
    /// All, for comparison: an exception or a stack switch kills the target.
    Everywhere,
}

/// The allocator in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its name: `glibc`, `jemalloc (static)`, `libc (static)`; the soname of a library that is not known
    /// by name.
    pub name: String,
    /// One probe for each address, in the table's order.
    pub specs: Vec<ProbeSpec>,
    /// Where the probed functions are, without those that map memory.
    pub code: Vec<FunctionCode>,
    /// Whether the file contains only an allocator, so that everything it maps is for blocks.
    pub is_allocator_alone: bool,
    /// What is not probed and why, one clause each: "malloc is an indirect function (IFUNC)".
    pub notes: Vec<String>,
    /// Functions whose blocks stay unseen because a return probe could kill the target and their exits are unknown;
    /// with the reason: "malloc (it is too large)".
    pub left_out: Vec<String>,
}

impl Found {
    /// Whether an allocating function has a return probe.
    #[must_use]
    pub fn has_return_probes(&self) -> bool {
        let at_return =
            |spec: &ProbeSpec| matches!(spec.role, Role::Allocate(_)) && spec.results == Results::AtReturn;
        self.specs.iter().any(at_return)
    }
}

/// Why a file has nothing to probe.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file does not define both a function that allocates and one that frees. The normal result for
    /// most of the files of a process.
    #[error("{}: no allocator: {allocating} functions that allocate, {freeing} that free", file.display())]
    NoAllocator {
        /// The file.
        file: PathBuf,
        /// Allocating functions found that can be probed.
        allocating: usize,
        /// Freeing functions found that can be probed.
        freeing: usize,
        /// As in [`Found::notes`].
        notes: Vec<String>,
    },
    /// The file is glibc's dynamic loader.
    #[error("{}: the dynamic loader's own allocator is not traced", file.display())]
    Loader {
        /// The file.
        file: PathBuf,
    },
    /// The file cannot be read.
    #[error("{}", file.display())]
    Elf {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        source: elf::Error,
    },
}

/// What to look for in a file, and how.
#[derive(Clone, Copy, Debug)]
pub struct Search<'a> {
    /// Goes into the specs and messages unchanged.
    pub path: &'a Path,
    /// The file's name in the target.
    pub name: &'a str,
    /// The file's debug file, whose symbols count where the file was stripped.
    pub debug: Option<&'a Image>,
    /// Which functions have a return probe.
    pub returns: ReturnProbes,
    /// What the user asked for.
    pub choice: &'a Choice,
}

/// Finds the allocators in a file and the cheapest probe site in each of their functions.
///
/// A library that wraps another allocator cannot be distinguished from an allocator.
///
/// # Errors
/// The file has no allocator, is glibc's loader, or is damaged.
pub fn find(image: &Image, search: Search<'_>) -> Result<Found, Error> {
    let Search { path, name, debug, returns, choice } = search;
    let elf_error = |source| Error::Elf { file: path.to_owned(), source };
    let soname = image.soname().map_err(elf_error)?;
    // Before glibc 2.32 the loader exports malloc and free, which are used only until libc's are available.
    if soname.as_deref().is_some_and(|name| name.starts_with("ld-linux")) {
        return Err(Error::Loader { file: path.to_owned() });
    }
    let names = Names::of(image, debug, choice).map_err(elf_error)?;
    let symbols = image.all_symbols(&names.wanted(), debug).map_err(elf_error)?;
    let is_executable = image.is_executable().map_err(elf_error)?;
    let linked_statically = is_executable && image.interpreter().map_err(elf_error)?.is_none();
    let defined = names.defined(&symbols, choice, is_executable);
    let name = defined.name(is_executable, linked_statically, soname.as_deref(), Path::new(name));
    let nothing =
        |allocating, freeing, notes| Error::NoAllocator { file: path.to_owned(), allocating, freeing, notes };
    if !choice.has_allocator(&name) {
        return Err(nothing(0, 0, Vec::new()));
    }
    let mut specs = Specs::new(image, path);
    for row in &defined.rows {
        for symbol in symbols.iter().filter(|symbol| symbol.name == row.symbol) {
            specs.add(symbol, &row.function, row.owner, row.may_wrap).map_err(elf_error)?;
        }
    }
    if specs.may_wrap() || specs.needs_exits(returns) {
        let tables = specs::tables(image);
        specs.remove_wrappers(&tables, &names::standard_role);
        if specs.needs_exits(returns) {
            specs.find_exits(&tables, returns);
        }
    }
    let Specs { specs, code, notes, left_out, .. } = specs;
    let freeing = specs.iter().filter(|spec| spec.role == Role::Free).count();
    let allocating = specs.len().saturating_sub(freeing);
    if allocating + left_out.len() == 0 || freeing == 0 {
        return Err(nothing(allocating, freeing, notes));
    }
    let is_allocator_alone = !is_executable && defined.is_alone;
    Ok(Found { name, specs, code, is_allocator_alone, notes, left_out })
}
