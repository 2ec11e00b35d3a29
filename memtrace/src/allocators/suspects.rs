//! Functions that look like an allocator's by name, and are none that is known.

use std::collections::BTreeSet;

use crate::elf::{self, Image, exits, exits::Wanted};

use super::{names, specs::tables};

/// How the names of a pair end.
const PAIRS: &[(&str, &str)] = &[
    ("malloc", "free"),
    ("Malloc", "Free"),
    ("_alloc", "_free"),
    ("_alloc", "_dealloc"),
    ("_allocate", "_deallocate"),
    ("_allocate", "_free"),
    ("_Alloc", "_Free"),
    ("Alloc", "Free"),
];
/// Names of one ending that are looked at.
const MOST: usize = 64;

/// Functions of a file that allocate, judging by their names and by others that free, and that do not end in functions that are
/// probed wherever they are. In alphabetical order.
///
/// # Errors
/// The file is damaged.
pub fn suspects(image: &Image, debug: Option<&Image>) -> Result<Vec<String>, elf::Error> {
    let mut named = BTreeSet::new();
    for (allocating, freeing) in PAIRS {
        let found = image.names_ending(allocating, debug, MOST)?;
        if found.is_empty() {
            continue;
        }
        let freeing_names = image.names_ending(freeing, debug, MOST * 4)?;
        let prefixes = found.iter().filter_map(|name| name.strip_suffix(allocating));
        let has_other =
            |prefix: &&str| freeing_names.iter().any(|name| name.strip_suffix(freeing) == Some(*prefix));
        named.extend(prefixes.filter(has_other).map(|prefix| format!("{prefix}{allocating}")));
    }
    named.retain(|name| !names::is_known(name));
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let mut names: Vec<&str> = names::standard().collect();
    names.extend(named.iter().map(String::as_str));
    let symbols = image.all_symbols(&names, debug)?;
    let standard: Vec<u64> =
        symbols.iter().filter(|symbol| !named.contains(symbol.name)).map(|symbol| symbol.address).collect();
    let tables = tables(image);
    let wanted = Wanted { own: &|address| standard.contains(&address), foreign: &names::is_standard };
    let ends_in_known = |name: &String| {
        let of_name = symbols.iter().filter(|symbol| symbol.name == name);
        let mut known = of_name.map(|symbol| {
            let range = symbol.address..symbol.address.saturating_add(symbol.size);
            standard.contains(&symbol.address) || exits::meets(image, &tables, range, &wanted)
        });
        known.any(|is| is)
    };
    Ok(named.iter().filter(|name| !ends_in_known(name)).cloned().collect())
}
