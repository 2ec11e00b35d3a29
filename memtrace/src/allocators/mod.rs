//! Floor 2: which allocator a file contains, and what to probe in it.

mod specs;
mod table;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use crate::elf::{self, Image, Symbol};
use crate::model::{FunctionCode, ProbeSpec, Results, Role};

use specs::{Owner, Specs};
pub use table::{ALLOCATORS, Allocator, C, C_REALLOC};

/// Functions inside the allocators of glibc and musl, which identify them in a static program.
const LIBC_INTERNALS: [&str; 2] = ["_int_malloc", "__libc_malloc_impl"];

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

/// Finds the allocator in a file and the cheapest probe site in each of its functions.
///
/// `path` goes into the specs and messages unchanged, `name` is the file's name in the target. A library that wraps
/// another allocator cannot be distinguished from an allocator.
///
/// # Errors
/// The file has no allocator, is glibc's loader, or is damaged.
pub fn find(image: &Image, path: &Path, name: &str, returns: ReturnProbes) -> Result<Found, Error> {
    let elf_error = |source| Error::Elf { file: path.to_owned(), source };
    let soname = image.soname().map_err(elf_error)?;
    // Before glibc 2.32 the loader exports malloc and free, which are used only until libc's are available.
    if soname.as_deref().is_some_and(|name| name.starts_with("ld-linux")) {
        return Err(Error::Loader { file: path.to_owned() });
    }
    let names = wanted_names();
    let mut symbols = image.symbols(&names).map_err(elf_error)?;
    if !symbols.is_empty() && known_by(&symbols).is_none() {
        // An allocator linked into a program has its names in the other table.
        symbols = image.all_symbols(&names).map_err(elf_error)?;
    }
    let known = known_by(&symbols);
    let functions = known.map_or(&[C, C_REALLOC] as &[_], |row| row.functions);
    let mut specs = Specs::new(image, path);
    for function in functions.iter().copied().flatten() {
        for symbol in symbols.iter().filter(|symbol| symbol.name == function.symbol) {
            specs.add(symbol, function.role).map_err(elf_error)?;
        }
    }
    let is_libc = known.is_some_and(|row| !row.is_alone)
        || symbols.iter().any(|symbol| LIBC_INTERNALS.contains(&symbol.name));
    specs.find_exits(Owner { known, is_libc }, returns);
    let Specs { specs, code, notes, left_out, .. } = specs;
    let freeing = specs.iter().filter(|spec| spec.role == Role::Free).count();
    let allocating = specs.len().saturating_sub(freeing);
    if allocating + left_out.len() == 0 || freeing == 0 {
        return Err(Error::NoAllocator { file: path.to_owned(), allocating, freeing, notes });
    }
    let is_executable = image.is_executable().map_err(elf_error)?;
    let is_allocator_alone = !is_executable && known.is_some_and(|row| row.is_alone);
    let name = if is_executable {
        let linked_statically = image.interpreter().map_err(elf_error)?.is_none();
        name_in_program(known, linked_statically)
    } else {
        name_of_library(known, soname.as_deref(), Path::new(name))
    };
    Ok(Found { name, specs, code, is_allocator_alone, notes, left_out })
}

/// The allocator whose marker is among some symbols.
fn known_by(symbols: &[Symbol<'_>]) -> Option<&'static Allocator> {
    ALLOCATORS.iter().find(|row| symbols.iter().any(|symbol| symbol.name == row.marker))
}

/// Every symbol of the table, once.
fn wanted_names() -> Vec<&'static str> {
    let functions = ALLOCATORS.iter().flat_map(|row| row.functions.iter().copied().flatten());
    let markers = ALLOCATORS.iter().map(|row| row.marker);
    let mut names: Vec<_> =
        functions.map(|function| function.symbol).chain(markers).chain(LIBC_INTERNALS).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn name_in_program(known: Option<&Allocator>, linked_statically: bool) -> String {
    // Whether a static program contains its C library's marker depends on what it uses: not enough to name one.
    let library = |row: &&Allocator| !matches!(row.name, "glibc" | "musl");
    match known.filter(library) {
        Some(row) => format!("{} (static)", row.name),
        None if linked_statically => "libc (static)".to_owned(),
        None => "malloc (static)".to_owned(),
    }
}

fn name_of_library(known: Option<&Allocator>, soname: Option<&str>, path: &Path) -> String {
    // The target chooses the soname, which is printed on terminals: only plain ones are accepted.
    let plain = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+'))
    };
    let file_name = path.file_name().and_then(|name| name.to_str());
    known
        .map(|row| row.name)
        .or(soname.filter(plain))
        .or(file_name.filter(plain))
        .unwrap_or("unknown allocator")
        .to_owned()
}
