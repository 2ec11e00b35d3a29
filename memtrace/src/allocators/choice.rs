//! What to probe, as the user asked for.

use crate::model::{ArgLayout, Role, glob};

/// The longest name or prefix that is accepted.
const MAX_NAME: usize = 256;

/// Which allocators and functions to probe. By default every one that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Only allocators with one of these names (`*` and `?` as in file names); empty: all.
    pub allocators: Vec<String>,
    /// Only files with one of these paths or names; empty: all.
    pub objects: Vec<String>,
    /// Prefixes: C's functions with one of these before their names are probed too.
    pub prefixes: Vec<String>,
    /// Functions of the user's own.
    pub functions: Vec<(String, Role)>,
    /// Whether functions with a prefix and those of the user's own take the place of all others.
    pub only_named: bool,
}

impl Choice {
    /// Whether everything that is known is probed.
    #[must_use]
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether an allocator of this name is wanted: `jemalloc` for `jemalloc (static)` too.
    #[must_use]
    pub fn has_allocator(&self, name: &str) -> bool {
        let short = name.split(" (").next().unwrap_or(name);
        let is_it = |pattern: &String| glob::matches(pattern, name) || glob::matches(pattern, short);
        self.allocators.is_empty() || self.allocators.iter().any(is_it)
    }

    /// Whether a file is wanted, by the path that the target has for it: a pattern means the path or its last part, a plain word
    /// also a library of that name (`c`: `libc.so.6`).
    #[must_use]
    pub fn has_object(&self, path: &str) -> bool {
        let file = path.rsplit('/').next().unwrap_or(path);
        let is_it = |pattern: &String| {
            let library = file.strip_prefix("lib").and_then(|name| name.strip_prefix(pattern.as_str()));
            glob::matches(pattern, path)
                || glob::matches(pattern, file)
                || library.is_some_and(|rest| rest.starts_with(".so") || rest.starts_with('-'))
        };
        self.objects.is_empty() || self.objects.iter().any(is_it)
    }
}

/// Parses `FUNC[:size=ARG][:count=ARG][:old=ARG][:out=ARG]`: argument numbers count from 1. Without `size` it is the first
/// argument.
///
/// # Errors
/// What is wrong with it, for the user.
pub fn parse_allocating(text: &str) -> Result<(String, Role), String> {
    let mut parts = text.split(':');
    let name = name_of(parts.next().unwrap_or_default())?;
    let mut layout = ArgLayout::default();
    for part in parts {
        let (key, number) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KEY=ARGUMENT"))?;
        let argument = number.parse::<u8>().ok().and_then(|number| number.checked_sub(1));
        let argument = argument
            .filter(|number| *number <= 5)
            .ok_or_else(|| format!("`{number}` is not the number of an argument: 1 to 6"))?;
        match key {
            "size" => layout.size = argument,
            "count" => layout.count = Some(argument),
            "old" => layout.old = Some(argument),
            "out" => layout.out = Some(argument),
            _ => return Err(format!("`{key}` is none of size, count, old and out")),
        }
    }
    Ok((name, Role::Allocate(layout)))
}

/// Parses the name of a function that frees the block in its first argument.
///
/// # Errors
/// What is wrong with it, for the user.
pub fn parse_freeing(text: &str) -> Result<(String, Role), String> {
    if text.contains(':') && !text.contains("::") {
        return Err(
            "a function that frees gets the block as its first argument: it has no options".to_owned()
        );
    }
    Ok((name_of(text)?, Role::Free))
}

/// Parses a prefix of symbols.
///
/// # Errors
/// What is wrong with it, for the user.
pub fn parse_prefix(text: &str) -> Result<String, String> {
    name_of(text)
}

fn name_of(text: &str) -> Result<String, String> {
    if text.contains("::") || text.contains('(') {
        return Err(
            "write the symbol as the file has it (`nm -D FILE`): mangled, for C++ and Rust".to_owned()
        );
    }
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'$' | b'@');
    if text.is_empty() || text.len() > MAX_NAME || !text.bytes().all(is_plain) {
        return Err("this is not the name of a symbol".to_owned());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Choice, parse_allocating, parse_freeing, parse_prefix};
    use crate::model::{ArgLayout, Role};

    #[test]
    fn functions_are_parsed() {
        let plain = ArgLayout::default();
        for (text, name, layout) in [
            ("pool_get", "pool_get", plain),
            ("pool_get:size=2", "pool_get", ArgLayout { size: 1, ..plain }),
            (
                "grow:old=1:count=2:size=3",
                "grow",
                ArgLayout { size: 2, count: Some(1), old: Some(0), ..plain },
            ),
            ("take:out=6:size=1", "take", ArgLayout { size: 0, out: Some(5), ..plain }),
        ] {
            assert_eq!(parse_allocating(text), Ok((name.to_owned(), Role::Allocate(layout))), "{text}");
        }
        for wrong in
            ["", "f:size", "f:size=0", "f:size=7", "f:size=x", "f:what=1", "a b", "Pool::get(int)", "f;g"]
        {
            assert!(parse_allocating(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_freeing("put"), Ok(("put".to_owned(), Role::Free)));
        assert!(parse_freeing("put:size=1").is_err() && parse_freeing("Pool::put").is_err());
        assert!(parse_prefix("je_").is_ok() && parse_prefix("").is_err());
    }

    #[test]
    fn files_and_allocators_are_chosen() {
        let objects = |object: &str| Choice { objects: vec![object.to_owned()], ..Choice::default() };
        for (object, path, is) in [
            ("c", "/usr/lib/libc.so.6", true),
            ("c", "/usr/lib/libc-2.31.so", true),
            ("c", "/usr/lib/libcrypt.so.1", false),
            ("libc.so.6", "/usr/lib/libc.so.6", true),
            ("/usr/lib/libc.so.6", "/usr/lib/libc.so.6", true),
            ("*jemalloc*", "/usr/lib/libjemalloc.so.2", true),
            ("/opt/*", "/usr/lib/libc.so.6", false),
        ] {
            assert_eq!(objects(object).has_object(path), is, "{object} {path}");
        }
        let choice = Choice { allocators: vec!["jemalloc".to_owned()], ..Choice::default() };
        assert!(choice.has_allocator("jemalloc (static)") && !choice.has_allocator("glibc"));
        assert!(Choice::default().has_allocator("glibc") && Choice::default().is_all() && !choice.is_all());
    }
}
