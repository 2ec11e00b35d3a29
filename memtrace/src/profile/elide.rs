//! Shortens texts that are too long to read.

use std::borrow::Cow;

/// At most `most` bytes of a text: its beginning and its end, with `…` in between. In the name of a function,
/// the beginning identifies the module or type, and the end the function.
#[must_use]
pub fn elide(text: &str, most: usize) -> Cow<'_, str> {
    const MARK: &str = "…";
    if text.len() <= most {
        return Cow::Borrowed(text);
    }
    let room = most.saturating_sub(MARK.len());
    let last = room / 3;
    let head = text.get(..text.floor_char_boundary(room - last)).unwrap_or_default();
    let tail = text.get(text.ceil_char_boundary(text.len() - last)..).unwrap_or_default();
    Cow::Owned([head, MARK, tail].concat())
}

#[cfg(test)]
mod tests {
    use super::elide;

    #[test]
    fn the_middle_goes() {
        assert_eq!(elide("abcdefghijkl", 12), "abcdefghijkl");
        assert_eq!(elide("abcdefghijklm", 12), "abcdef…klm");
        assert_eq!(elide("äöüäöüäöü", 12), "äöü…ü");
        assert_eq!(elide("long enough", 2), "…");
        for most in 3..20 {
            assert!(elide(&"ü".repeat(100), most).len() <= most);
        }
    }
}
