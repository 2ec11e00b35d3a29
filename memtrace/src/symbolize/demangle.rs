//! Demangles names and limits their length.

use std::{borrow::Cow, fmt};

use crate::profile::elide;

/// Bytes of a name that are kept, demangled.
pub(super) const MOST: usize = 4096;

/// Longer names are left unchanged: the parser's work grows with their length.
const LONGEST: usize = 1 << 17;

/// What a mangled name may expand to before it is cut: a few bytes can expand to megabytes.
const WRITTEN: usize = 1 << 20;

/// A function's name, demangled, of at most [`MOST`] bytes.
pub(super) fn name(raw: &[u8]) -> String {
    let raw = String::from_utf8_lossy(raw);
    elide(&demangle(&raw), MOST).into_owned()
}

/// The name of a variable or function for people, of at most 4,096 bytes.
#[must_use]
pub fn demangled(symbol: &str) -> String {
    name(symbol.as_bytes())
}

/// Demangles Rust and C++ names. Everything else is already a name: a C function `f` is not C++'s `float`.
fn demangle(name: &str) -> Cow<'_, str> {
    if name.len() > LONGEST {
        return Cow::Borrowed(name);
    }
    let plain = name.strip_prefix('_').filter(|rest| rest.starts_with("_Z") || rest.starts_with("_R"));
    let name = plain.unwrap_or(name);
    let mut demangled = Bounded::default();
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return demangled
            .take(|out| fmt::write(out, format_args!("{rust:#}")))
            .map_or(name.into(), Cow::Owned);
    }
    if name.starts_with("_Z")
        && let Ok(symbol) = cpp_demangle::Symbol::new(name.as_bytes())
    {
        let options = cpp_demangle::DemangleOptions::new();
        let cxx = demangled.take(|out| symbol.structured_demangle(out, &options));
        return cxx.map_or(name.into(), Cow::Owned);
    }
    Cow::Borrowed(name)
}

/// A text that ends at [`WRITTEN`] bytes.
#[derive(Default)]
struct Bounded {
    text: String,
    is_full: bool,
}

impl Bounded {
    /// The written text, cut if it is too long; `None` if writing failed.
    fn take(&mut self, write: impl FnOnce(&mut Self) -> fmt::Result) -> Option<String> {
        let written = write(self);
        (written.is_ok() || self.is_full).then(|| std::mem::take(&mut self.text))
    }
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.is_full |= self.text.len() + part.len() > WRITTEN;
        if self.is_full {
            return Err(fmt::Error);
        }
        self.text.push_str(part);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, MOST, demangle, demangled, name};

    #[test]
    fn only_mangled_names_change() {
        for name in ["f", "h", "main", "Ss", "Dn", "R", "malloc", "_Zombie!", "_start", "__libc_start_main"] {
            assert_eq!(demangle(name), name);
        }
        assert_eq!(
            demangle("_ZNSt6vectorIiSaIiEE9push_backERKi"),
            "std::vector<int, std::allocator<int> >::push_back(int const&)"
        );
        assert_eq!(
            demangle("_ZN4core3fmt5Write9write_str17h0123456789abcdefE"),
            "core::fmt::Write::write_str"
        );
        assert_eq!(demangle("_RNvC6_123foo3bar"), "123foo::bar");
        assert_eq!(demangled("_ZN8registry5tableE"), "registry::table");
        assert_eq!(demangled("_ZZL8remembervE5cache"), "remember()::cache");
        let long = "_Z".repeat(LONGEST);
        assert_eq!(demangle(&long), long);
    }

    #[test]
    fn names_are_bounded() {
        let long = name(&b"x".repeat(1 << 20));
        assert!(long.len() <= MOST && long.starts_with("xxx") && long.contains('…'), "{}", long.len());
        assert_eq!(name(b"\xff"), "\u{fffd}");
        // Twenty template arguments, each twice the one before: a megabyte and more.
        let mut parts = String::from("St4pairIiiE");
        for _ in 0..20 {
            parts = format!("St4pairI{parts}S_E");
        }
        let mut twice = String::from("_Z1fSt4pairIiiE");
        for seq in [
            "", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "A", "B", "C", "D", "E", "F", "G", "H", "I",
        ] {
            twice.push_str(&format!("St4pairIS{seq}_S{seq}_E"));
        }
        assert!(name(twice.as_bytes()).len() <= MOST);
        assert!(name(format!("_Z1f{parts}").as_bytes()).len() <= MOST);
    }
}
