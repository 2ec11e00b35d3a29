//! Suppressions as they are printed: those that could be made, and those that were used.

use std::fmt::Write as _;

use super::blame::culprit;
use super::escape::{escape, is_hazardous};
use crate::profile::{Frame, Suppressions};

/// A line that suppresses what a stack has lost: by the function to blame, else by the file it is in. It matches the whole
/// name, but everything that this function or file allocates. `None` for an empty stack.
#[must_use]
pub fn suppression(frames: &[Frame<'_>]) -> Option<String> {
    let frame = frames.get(culprit(frames)?)?;
    let place = match frame.function {
        Some(name) => format!("^{}$", pattern(name)),
        None => {
            let name = frame.module.rsplit_once('/');
            let name = name.map_or_else(|| format!("^{}", frame.module), |(_, name)| format!("/{name}"));
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

#[cfg(test)]
mod tests {
    use super::{suppression, suppressions_used};
    use crate::profile::{Amount, Suppressions};
    use crate::report::tests::named as frame;

    #[test]
    fn the_line_names_the_programs_own_function_and_matches_its_stack() {
        let vector = "void std::vector<int>::_M_realloc_insert<int>(int&&)";
        for (stack, line) in [
            (vec![frame("make", "/a"), frame("main", "/a")], "leak:^make$"),
            (
                vec![
                    frame("__strdup", "/usr/lib/libc.so.6"),
                    frame(vector, "/a"),
                    frame("Cache::add(char const*, char**)", "/a"),
                ],
                "leak:^Cache::add(char const*, char*)$",
            ),
            (
                vec![frame("<alloc::vec::Vec<u8>>::push", "/a"), frame("main::$_0::call", "/a")],
                "leak:^main::*_0::call$",
            ),
            (vec![frame("", "/usr/lib/libplugin.so"), frame("", "/a")], "leak:/libplugin.so$"),
            (vec![frame("", "[anon]")], "leak:^[anon]$"),
            (vec![frame("fopen", "/usr/lib/libc.so.6"), frame("", "/opt/a")], "leak:/a$"),
            (vec![frame("fopen", "/usr/lib/libc.so.6")], "leak:^fopen$"),
            (vec![frame("f\u{1b}[2J\nleak:*", "/a")], "leak:^f*[2J*leak:*$"),
            (vec![frame("aaa…zzz", "/a")], "leak:^aaa*zzz$"),
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
        suppressions.suppress(&[frame("make", "/a")], Amount { bytes: 1234, blocks: 5 });
        assert_eq!(
            suppressions_used(&suppressions),
            "Suppressions used:\n  count      bytes template\n      5       1234 make\n"
        );
    }
}
