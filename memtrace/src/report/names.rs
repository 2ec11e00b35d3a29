//! Names of functions, shortened for people.
//!
//! The demangled name of a C++ or Rust function can have thousands of characters, nearly all of them template arguments. A
//! short name has no result type, no default arguments (`std::allocator<…>`), `std::string` for what it stands for, and
//! `<…>` for arguments of arguments.

mod parse;

use std::borrow::Cow;

use parse::{ANONYMOUS, Piece, parse};

/// Template arguments that the standard libraries add by themselves.
const DEFAULTS: [&str; 8] = [
    "std::allocator",
    "std::char_traits",
    "std::less",
    "std::hash",
    "std::equal_to",
    "std::default_delete",
    "alloc::alloc::Global",
    "std::hash::random::RandomState",
];

/// Namespaces that are part of a library's binary interface, not of what people write.
const INLINE_NAMESPACES: [&str; 3] = ["::__cxx11", "::__1", "::_V2"];

/// How much of a name is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Detail {
    /// Arguments of templates and functions, those of templates within them as `<…>`.
    Arguments,
    /// All arguments as `…`.
    Elided,
    /// No arguments at all.
    Path,
}

/// A function's name of at most `most` characters.
pub(super) fn shorten(name: &str, most: usize) -> Cow<'_, str> {
    let fits = |text: &str| text.chars().count() <= most;
    let Some(pieces) = parse(name) else { return elided(name, most) };
    let short = render(&pieces, Detail::Arguments);
    if fits(&short) {
        return Cow::Owned(short);
    }
    let shorter = render(&pieces, Detail::Elided);
    if fits(&shorter) { Cow::Owned(shorter) } else { Cow::Owned(elided(&shorter, most).into_owned()) }
}

/// The path of a function: without its result, its arguments and those of templates. What implements a trait for a type
/// is in the type.
pub(super) fn path(name: &str) -> Cow<'_, str> {
    if !name.contains(['<', '(', ' ']) {
        return Cow::Borrowed(name);
    }
    parse(name).map_or(Cow::Borrowed(name), |pieces| Cow::Owned(render(&pieces, Detail::Path)))
}

/// A text of at most `most` characters, without its middle if it is longer.
pub(super) fn elided(text: &str, most: usize) -> Cow<'_, str> {
    let length = text.chars().count();
    if length <= most {
        return Cow::Borrowed(text);
    }
    let kept = most.saturating_sub(1);
    let last = kept / 3;
    let head = text.chars().take(kept - last);
    Cow::Owned(head.chain(['…']).chain(text.chars().skip(length - last)).collect())
}

/// Writes the pieces of a whole name.
fn render(pieces: &[Piece<'_>], detail: Detail) -> String {
    let has_parameters = pieces.iter().any(|piece| matches!(piece, Piece::Parentheses(_)));
    let mut out = String::new();
    // The type of the result stands before the name, and a name has no space in it except after `operator`.
    let mut before_name = has_parameters;
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                let rest = match text.rfind(' ') {
                    Some(space) if before_name => {
                        out.clear();
                        text.get(space + 1..).unwrap_or_default()
                    }
                    // What follows the parameters: `const`.
                    _ if detail == Detail::Path && has_parameters && !before_name => {
                        text.split(' ').next().unwrap_or_default()
                    }
                    _ => text,
                };
                push_text(&mut out, rest);
            }
            Piece::Anonymous => out.push_str(ANONYMOUS),
            Piece::Operator(text) => {
                before_name = false;
                out.push_str(text);
            }
            Piece::Parentheses(inner) => {
                before_name = false;
                match detail {
                    Detail::Arguments => group(&mut out, '(', inner, 1, ')'),
                    Detail::Elided if inner.is_empty() => out.push_str("()"),
                    Detail::Elided => out.push_str("(…)"),
                    Detail::Path => {}
                }
            }
            Piece::Braces(inner) => group(&mut out, '{', inner, 1, '}'),
            Piece::Qualified(inner) if detail == Detail::Path => {
                let text = render(inner, Detail::Path);
                out.push_str(text.split(" as ").next().unwrap_or_default());
            }
            Piece::Qualified(inner) => {
                group(&mut out, '<', inner, usize::from(detail == Detail::Elided), '>')
            }
            Piece::Arguments(arguments) => match detail {
                Detail::Arguments => template(&mut out, arguments, 0),
                Detail::Elided => template(&mut out, arguments, 1),
                Detail::Path => {}
            },
        }
    }
    out
}

/// Writes the pieces of a part of a name that is `depth` templates or parentheses deep.
fn inside(out: &mut String, pieces: &[Piece<'_>], depth: usize) {
    for piece in pieces {
        match piece {
            Piece::Text(text) => push_text(out, text),
            Piece::Anonymous => out.push_str(ANONYMOUS),
            Piece::Operator(text) => out.push_str(text),
            Piece::Parentheses(inner) => group(out, '(', inner, depth + 1, ')'),
            Piece::Braces(inner) => group(out, '{', inner, depth + 1, '}'),
            Piece::Qualified(inner) => group(out, '<', inner, depth, '>'),
            Piece::Arguments(arguments) => template(out, arguments, depth),
        }
    }
}

fn group(out: &mut String, open: char, inner: &[Piece<'_>], depth: usize, close: char) {
    out.push(open);
    inside(out, inner, depth);
    out.push(close);
}

/// Writes template arguments, or `<…>`. What is a string to people is written as one.
fn template(out: &mut String, arguments: &[Vec<Piece<'_>>], depth: usize) {
    let is_char =
        matches!(arguments.first().map(Vec::as_slice), Some([Piece::Text(text)]) if text.trim() == "char");
    if is_char && let Some(start) = out.rfind("::basic_") {
        let name = start + "::basic_".len();
        if out.get(name..).is_some_and(|rest| rest.chars().all(|c| c.is_ascii_lowercase() || c == '_')) {
            out.replace_range(start + "::".len()..name, "");
            return;
        }
    }
    if depth > 0 {
        out.push_str("<…>");
        return;
    }
    out.push('<');
    let mut is_first = true;
    for argument in arguments.iter().enumerate().filter(|(n, argument)| *n == 0 || !is_default(argument)) {
        if !std::mem::take(&mut is_first) {
            out.push_str(", ");
        }
        let mut text = String::new();
        inside(&mut text, argument.1, depth + 1);
        out.push_str(text.trim());
    }
    out.push('>');
}

fn is_default(argument: &[Piece<'_>]) -> bool {
    let Some(Piece::Text(text)) = argument.first() else { return false };
    let mut name = String::new();
    push_text(&mut name, text.trim());
    DEFAULTS.contains(&name.as_str())
}

/// Text without namespaces and tags that nobody writes.
fn push_text(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find("::_").into_iter().chain(rest.find("[abi:")).min() {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let namespace = INLINE_NAMESPACES
            .iter()
            .find_map(|name| from.strip_prefix(name).filter(|after| after.starts_with("::")));
        let tag = from.strip_prefix("[abi:").and_then(|tag| tag.split_once(']')).map(|(_, after)| after);
        rest = namespace.or(tag).unwrap_or_else(|| {
            let (kept, after) = from.split_at(1);
            out.push_str(kept);
            after
        });
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests;
