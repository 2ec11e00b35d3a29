//! Suppressions as they are printed: those that could be made, and those that were used.

use std::fmt::Write as _;

use super::escape::{escape, is_hazardous};
use crate::profile::{Frame, Suppressions};

/// Files whose functions allocate for others: C and C++ libraries, loaders, allocators.
const LIBRARIES: [&str; 14] = [
    "libc.",
    "libc-",
    "libstdc++.",
    "libc++.",
    "libc++abi.",
    "libgcc_s.",
    "ld-linux",
    "ld-musl",
    "ld.so",
    "libpthread",
    "libdl",
    "libjemalloc",
    "libtcmalloc",
    "libmimalloc",
];

/// The same of functions that are compiled into a program.
const FUNCTIONS: [&str; 14] = [
    "std::",
    "__gnu_cxx::",
    "__cxxabi",
    "alloc::",
    "core::",
    "hashbrown::",
    "malloc",
    "calloc",
    "realloc",
    "reallocarray",
    "strdup",
    "__rust_",
    "__rustc::",
    "__libc_",
];

/// A line that suppresses what a stack has lost: by its innermost function outside of allocators and libraries of the
/// language, else by the file of its innermost frame. It matches the whole name, so that it hides nothing else. `None` for
/// an empty stack.
#[must_use]
pub fn suppression(frames: &[Frame<'_>]) -> Option<String> {
    let own = frames.iter().filter(|frame| !is_library(frame.module));
    let mut named = own.filter_map(|frame| frame.function.filter(|name| !is_of_language(name)));
    let place = match named.next() {
        Some(name) => format!("^{}$", pattern(name)),
        None => {
            let outside = frames.iter().find(|frame| !is_library(frame.module));
            let module = outside.or(frames.first())?.module;
            let name =
                module.rsplit_once('/').map_or_else(|| format!("^{module}"), |(_, name)| format!("/{name}"));
            format!("{}$", pattern(&name))
        }
    };
    Some(format!("leak:{place}"))
}

/// The suppressions that were used, as `LeakSanitizer` lists them; empty if there are none.
#[must_use]
pub fn suppressions_used(suppressions: &Suppressions) -> String {
    let mut text = String::new();
    for (pattern, amount) in suppressions.used() {
        if text.is_empty() {
            text.push_str("Suppressions used:\n  count      bytes template\n");
        }
        let _ = writeln!(text, "{:>7} {:>10} {}", amount.blocks, amount.bytes, escape(pattern));
    }
    text
}

/// A name as part of a pattern. What would have a meaning there, was left out of the name, or does not belong on a
/// terminal is matched by any characters.
fn pattern(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if !matches!(letter, '*' | '$' | '…') && !is_hazardous(letter) {
            text.push(letter);
        } else if !text.ends_with('*') {
            text.push('*');
        }
    }
    text
}

fn is_library(module: &str) -> bool {
    let name = module.rsplit('/').next().unwrap_or_default();
    LIBRARIES.iter().any(|library| name.starts_with(library))
}

/// Whether a function belongs to a language's library or is an allocator: by its name without the type of its result.
fn is_of_language(name: &str) -> bool {
    let name = name.trim_start_matches(['<', '&']);
    let head = name.split(['<', '(']).next().unwrap_or_default();
    let last = head.rsplit(' ').next().unwrap_or_default();
    head.starts_with("operator new") || FUNCTIONS.iter().any(|function| last.starts_with(function))
}

#[cfg(test)]
mod tests {
    use super::{suppression, suppressions_used};
    use crate::profile::{Amount, Frame, Suppressions};

    fn frame<'a>(function: Option<&'a str>, module: &'a str) -> Frame<'a> {
        Frame {
            function,
            function_offset: 0,
            module,
            module_offset: 0,
            file: None,
            line: None,
            inlined: false,
        }
    }

    #[test]
    fn the_line_names_the_programs_own_function_and_matches_its_stack() {
        let vector = "void std::vector<int>::_M_realloc_insert<int>(int&&)";
        for (stack, line) in [
            (vec![frame(Some("make"), "/a"), frame(Some("main"), "/a")], "leak:^make$"),
            (
                vec![
                    frame(Some("__strdup"), "/usr/lib/libc.so.6"),
                    frame(Some(vector), "/a"),
                    frame(Some("Cache::add(char const*, char**)"), "/a"),
                ],
                "leak:^Cache::add(char const*, char*)$",
            ),
            (
                vec![frame(Some("<alloc::vec::Vec<u8>>::push"), "/a"), frame(Some("main::$_0::call"), "/a")],
                "leak:^main::*_0::call$",
            ),
            (vec![frame(None, "/usr/lib/libplugin.so"), frame(None, "/a")], "leak:/libplugin.so$"),
            (vec![frame(None, "[anon]")], "leak:^[anon]$"),
            (vec![frame(Some("fopen"), "/usr/lib/libc.so.6"), frame(None, "/opt/a")], "leak:/a$"),
            (vec![frame(Some("fopen"), "/usr/lib/libc.so.6")], "leak:/libc.so.6$"),
            (vec![frame(Some("f\u{1b}[2J\nleak:*"), "/a")], "leak:^f*[2J*leak:*$"),
            (vec![frame(Some("aaa…zzz"), "/a")], "leak:^aaa*zzz$"),
        ] {
            assert_eq!(suppression(&stack).as_deref(), Some(line));
            let mut suppressions = Suppressions::parse(line).unwrap();
            assert!(suppressions.suppress(&stack, Amount { bytes: 1, blocks: 1 }), "{line}");
        }
        assert_eq!(suppression(&[]), None);
    }

    #[test]
    fn those_used_are_listed() {
        let mut suppressions = Suppressions::parse("leak:make\nleak:other\n").unwrap();
        assert_eq!(suppressions_used(&suppressions), "");
        suppressions.suppress(&[frame(Some("make"), "/a")], Amount { bytes: 1234, blocks: 5 });
        assert_eq!(
            suppressions_used(&suppressions),
            "Suppressions used:\n  count      bytes template\n      5       1234 make\n"
        );
    }
}
