//! From the symbols of a file to the functions to probe in it.

use std::path::Path;

use super::{
    choice::Choice,
    functions::Function,
    specs::Owner,
    table::{ALLOCATORS, ARRAY, Allocator, C, C_REALLOC, CXX_DELETE, CXX_DELETE_SIZED, CXX_NEW, PREFIXED},
};
use crate::{
    elf::{Error, Image, Symbol},
    model::Role,
};

/// Functions inside the allocators of glibc and musl, which identify them in a static program.
const LIBC_INTERNALS: [&str; 2] = ["_int_malloc", "__libc_malloc_impl"];

/// C's functions, for allocators that are not known.
const PLAIN: &[&[Function]] = &[C, C_REALLOC];
/// What is probed in files of unknown origin unless it ends in another probed function.
const MAY_WRAP: &[&[Function]] = &[ARRAY, CXX_NEW, CXX_DELETE_SIZED, CXX_DELETE];
/// What follows a prefix that the user names.
const WITH_PREFIX: &[&[Function]] = &[C, C_REALLOC, ARRAY];

/// Prefixed allocators of one file that are looked at, and the longest prefix.
const MOST_PREFIXES: usize = 8;
const MAX_PREFIX: usize = 48;

fn all(groups: &'static [&'static [Function]]) -> impl Iterator<Item = &'static Function> {
    groups.iter().copied().flatten()
}

/// Whether it is the name of a function that is probed wherever it is defined, or ends in one that is.
pub(super) fn is_standard(name: &str) -> bool {
    standard().any(|known| known == name)
}

/// What a function of this name does, if it is probed wherever it is defined, or ends in one that is.
pub(super) fn standard_role(name: &str) -> Option<Role> {
    all(PLAIN).chain(all(MAY_WRAP)).find(|function| function.symbol == name).map(|function| function.role)
}

/// Names of functions that are probed wherever they are defined.
pub(super) fn standard() -> impl Iterator<Item = &'static str> {
    all(PLAIN).chain(all(MAY_WRAP)).map(|function| function.symbol)
}

/// Whether it is the name of a function in the catalog.
pub(super) fn is_known(name: &str) -> bool {
    is_standard(name) || ALLOCATORS.iter().any(|row| row.all().any(|function| function.symbol == name))
}

/// Whether it is a form of `operator delete`.
fn is_delete(function: &Function) -> bool {
    all(&[CXX_DELETE_SIZED, CXX_DELETE]).any(|other| other.symbol == function.symbol)
}

/// Whether functions that allocate and that free are among those that a file defines. A linker leaves those that are used: a
/// marker may be missing.
fn is_family(functions: &'static [&'static [Function]], is_defined: &dyn Fn(&Function) -> bool) -> bool {
    let has = |frees: bool| {
        all(functions).any(|function| (function.role == Role::Free) == frees && is_defined(function))
    };
    has(true) && has(false)
}

/// An allocator that was built with a prefix: its name and that.
type Built = (&'static str, String);

/// Symbols to look for in a file.
pub(super) struct Names {
    /// Functions with a prefix: symbol, function, whose it is (`None`: the user named the prefix).
    prefixed: Vec<(String, Function, Option<Built>)>,
    /// Functions that the user named.
    own: Vec<(String, Function)>,
}

impl Names {
    /// Finds the prefixes of a file.
    pub(super) fn of(image: &Image, debug: Option<&Image>, choice: &Choice) -> Result<Self, Error> {
        let mut prefixed = Vec::new();
        for row in PREFIXED {
            let mut prefixes: Vec<String> = Vec::new();
            for marker in row.markers {
                let names = image.names_ending(marker, debug, MOST_PREFIXES)?;
                prefixes.extend(names.iter().filter_map(|name| name.strip_suffix(marker)).map(str::to_owned));
            }
            prefixes.sort_unstable();
            prefixes.dedup();
            // The target chooses them, and they are printed.
            let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
            prefixes.retain(|prefix| {
                !prefix.is_empty() && prefix.len() <= MAX_PREFIX && prefix.bytes().all(is_plain)
            });
            for prefix in prefixes {
                let of = (row.name, prefix);
                let named = |function: &Function| (format!("{}{}", of.1, function.symbol), *function);
                let functions = all(row.functions).map(named);
                prefixed.extend(functions.map(|(symbol, function)| (symbol, function, Some(of.clone()))));
            }
        }
        for prefix in &choice.prefixes {
            let named =
                all(WITH_PREFIX).map(|function| (format!("{prefix}{}", function.symbol), *function, None));
            prefixed.extend(named);
        }
        let own = choice.functions.iter();
        let own = own.map(|(name, role)| (name.clone(), Function { symbol: "", role: *role, throws: true }));
        Ok(Self { prefixed, own: own.collect() })
    }

    /// Every symbol, once.
    pub(super) fn wanted(&self) -> Vec<&str> {
        let rows = ALLOCATORS.iter().flat_map(|row| row.all().map(|function| function.symbol));
        let markers = ALLOCATORS.iter().flat_map(|row| row.markers).copied();
        let prefixed = self.prefixed.iter().map(|(name, ..)| name.as_str());
        let own = self.own.iter().map(|(name, _)| name.as_str());
        let mut names: Vec<&str> = rows.chain(markers).chain(standard()).chain(LIBC_INTERNALS).collect();
        names.extend(prefixed.chain(own));
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What of that a file defines, in the order in which it is to be probed.
    pub(super) fn defined<'n>(
        &'n self,
        symbols: &[Symbol<'_>],
        choice: &Choice,
        is_executable: bool,
    ) -> Defined<'n> {
        let address =
            |name: &str| symbols.iter().find(|symbol| symbol.name == name).map(|symbol| symbol.address);
        let is_there = |row: &&Allocator| {
            row.markers.iter().any(|marker| address(marker).is_some())
                || is_family(row.own, &|function| address(function.symbol).is_some())
        };
        let internals = LIBC_INTERNALS.iter().any(|name| address(name).is_some());
        // An allocator under its own names may be beside a C library's.
        let has_malloc = |row: &&Allocator| {
            let own = || row.own.iter().copied().flatten().filter_map(|function| address(function.symbol));
            !internals || !row.is_alone || own().any(|at| Some(at) == address("malloc"))
        };
        let known = ALLOCATORS.iter().filter(is_there).find(has_malloc);
        let is_libc = internals || known.is_some_and(|row| !row.is_alone);
        let owner = match known {
            Some(row) if row.is_alone => Owner::Known,
            _ if is_libc => Owner::Libc,
            _ => Owner::Unknown,
        };
        // First, for the first row of an address counts.
        let named = |(symbol, function): &'n (String, Function)| Row {
            symbol,
            function: *function,
            owner: Owner::Unknown,
            may_wrap: false,
        };
        let mut rows: Vec<Row<'n>> = self.own.iter().map(named).collect();
        let mut add = |functions: &mut dyn Iterator<Item = &'static Function>, owner, may_wrap| {
            rows.extend(functions.map(|function| {
                // Of an allocator, these may be a jump to `free`.
                let may_wrap = may_wrap || owner == Owner::Known && is_delete(function);
                Row { symbol: function.symbol, function: *function, owner, may_wrap }
            }));
        };
        if !choice.only_named {
            add(&mut all(known.map_or(PLAIN, |row| row.functions)), owner, false);
            for row in ALLOCATORS.iter().filter(is_there) {
                // Many of these are jumps to others.
                add(&mut all(row.own), Owner::Known, true);
            }
            if known.is_none_or(|row| !row.is_alone && is_executable) {
                // A C library's `reallocarray` ends in `realloc`.
                let others = MAY_WRAP.get(usize::from(is_libc)..).unwrap_or_default();
                add(&mut all(others), Owner::Unknown, true);
            }
        }
        let is_defined = |(name, prefix): &Built| {
            let row = PREFIXED.iter().find(|row| row.name == *name);
            let is_there = |function: &Function| address(&format!("{prefix}{}", function.symbol)).is_some();
            row.is_some_and(|row| is_family(row.functions, &is_there))
        };
        let mut prefix = None;
        for (symbol, function, of) in &self.prefixed {
            let owner = match of {
                Some(its) if is_defined(its) => {
                    prefix = prefix.or(Some((its.0, its.1.as_str())));
                    Owner::Known
                }
                Some(_) => continue,
                None => Owner::Unknown,
            };
            if !choice.only_named || of.is_none() {
                rows.push(Row { symbol, function: *function, owner, may_wrap: false });
            }
        }
        let other = ALLOCATORS.iter().filter(is_there).find(|row| row.is_alone);
        Defined {
            rows,
            is_alone: known.is_some_and(|row| row.is_alone) && !choice.only_named,
            known: known.filter(|row| row.is_alone).or(other).or(known),
            prefix,
            is_named: choice.only_named,
        }
    }
}

/// A function to probe.
pub(super) struct Row<'n> {
    pub(super) symbol: &'n str,
    pub(super) function: Function,
    pub(super) owner: Owner,
    /// Unless it ends in another one.
    pub(super) may_wrap: bool,
}

/// What a file defines.
pub(super) struct Defined<'n> {
    pub(super) rows: Vec<Row<'n>>,
    /// Whether its library would contain nothing else.
    pub(super) is_alone: bool,
    known: Option<&'static Allocator>,
    /// An allocator with a prefix.
    prefix: Option<(&'static str, &'n str)>,
    /// Whether only functions that the user named are probed.
    is_named: bool,
}

impl Defined<'_> {
    /// The allocator's name in reports.
    pub(super) fn name(
        &self,
        is_executable: bool,
        linked_statically: bool,
        soname: Option<&str>,
        path: &Path,
    ) -> String {
        // Whether a static program contains its C library's marker depends on what it uses: not enough to name one.
        let library = |row: &&Allocator| !is_executable || row.is_alone;
        match (self.known.filter(library), self.prefix) {
            _ if self.is_named => format!("functions of {}", name_of_file(soname, path)),
            (Some(row), _) if is_executable => format!("{} (static)", row.name),
            (Some(row), _) => row.name.to_owned(),
            (None, Some((name, prefix))) => format!("{name} ({prefix})"),
            (None, None) if linked_statically => "libc (static)".to_owned(),
            (None, None) if is_executable => "malloc (static)".to_owned(),
            (None, None) => name_of_file(soname, path),
        }
    }
}

fn name_of_file(soname: Option<&str>, path: &Path) -> String {
    // The target chooses the soname, which is printed on terminals: only plain ones are accepted.
    let plain = |name: &&str| {
        !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'+'))
    };
    let file_name = path.file_name().and_then(|name| name.to_str());
    soname.filter(plain).or(file_name.filter(plain)).unwrap_or("unknown allocator").to_owned()
}
