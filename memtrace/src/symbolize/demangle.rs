//! Names as their language writes them.

use std::borrow::Cow;

/// Longer names are left as they are: a few bytes of them can stand for megabytes.
const LONGEST: usize = 8192;

/// Demangles Rust's and C++'s names. Everything else is a name already: a C function `f` is not C++'s `float`.
pub(super) fn demangle(name: &str) -> Cow<'_, str> {
    if name.len() > LONGEST {
        return Cow::Borrowed(name);
    }
    let plain = name.strip_prefix("__").filter(|rest| rest.starts_with(['Z', 'R'])).map(|_| &name[1..]);
    let name = plain.unwrap_or(name);
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Cow::Owned(format!("{rust:#}"));
    }
    if name.starts_with("_Z") {
        let symbol = cpp_demangle::Symbol::new(name.as_bytes());
        if let Some(cxx) = symbol.ok().and_then(|symbol| symbol.demangle().ok()) {
            return Cow::Owned(cxx);
        }
    }
    Cow::Borrowed(name)
}

#[cfg(test)]
mod tests {
    use super::demangle;

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
        let long = "_Z".repeat(10_000);
        assert_eq!(demangle(&long), long);
    }
}
