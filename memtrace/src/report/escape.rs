//! Text from the target, escaped for a terminal.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::profile::elide;

/// Bytes of a name that are shown to people: a line or two of a terminal.
const SHOWN: usize = 200;

/// A name as it is shown to people: escaped, and without its middle if it is long.
pub(super) fn short(text: &str) -> String {
    escape(&elide(text, SHOWN)).into_owned()
}

/// Escapes what could control a terminal, or reorder or hide text on it: `\x1b`, `\u{202e}`.
///
/// These are control characters (C0, DEL, C1; line breaks and tabs too), bidirectional controls, line and
/// paragraph separators, and characters that take no room. A backslash stays as it is.
#[must_use]
pub fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hazardous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        let code = u32::from(c);
        let written = match code {
            _ if !is_hazardous(c) => safe.write_char(c),
            0..0x80 => write!(safe, "\\x{code:02x}"),
            _ => write!(safe, "\\u{{{code:x}}}"),
        };
        debug_assert!(written.is_ok(), "writing to a String does not fail");
    }
    Cow::Owned(safe)
}

/// Text in HTML or XML, also in attributes: escaped as for terminals first, so that XML forbids none of it.
pub(super) fn markup(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in escape(text).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // Noncharacters, which XML forbids.
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// Whether `c` must not reach a terminal as it is.
pub(super) fn is_hazardous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' // soft hyphen
            | '\u{61c}' // Arabic letter mark
            | '\u{180e}' // Mongolian vowel separator
            | '\u{200b}'..='\u{200f}' // zero-width space and joiners, direction marks
            | '\u{2028}'..='\u{202e}' // line and paragraph separators, bidirectional embeddings and overrides
            | '\u{2060}'..='\u{206f}' // word joiner, invisible operators, isolates, deprecated formats
            | '\u{feff}' // zero-width no-break space
            | '\u{fff9}'..='\u{fffb}' // interlinear annotations
            | '\u{e0000}'..='\u{e007f}') // tags
}

#[cfg(test)]
mod tests {
    use super::{Cow, escape};

    #[test]
    fn ordinary_text_is_borrowed() {
        for text in
            ["", "leak_small", "std::vec::Vec<T>::push", "/srv/größe/日本語 (deleted)", r"C:\x1b", "�"]
        {
            assert!(matches!(escape(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn hazards_are_shown() {
        for (text, safe) in [
            ("a\x1b[2Jb", "a\\x1b[2Jb"),
            ("\0\n\r\t\x08\x7f", "\\x00\\x0a\\x0d\\x09\\x08\\x7f"),
            ("\u{80}\u{9b}31m\u{9f}", "\\u{80}\\u{9b}31m\\u{9f}"),
            ("\u{202a}\u{202e}", "\\u{202a}\\u{202e}"),
            ("\u{2066}\u{2069}", "\\u{2066}\\u{2069}"),
            ("\u{2028}\u{2029}", "\\u{2028}\\u{2029}"),
            ("x\u{200b}y\u{200d}\u{feff}", "x\\u{200b}y\\u{200d}\\u{feff}"),
            ("\u{61c}\u{200f}\u{e0041}", "\\u{61c}\\u{200f}\\u{e0041}"),
            ("\u{180e}\u{206f}\u{fff9}\u{fffb}", "\\u{180e}\\u{206f}\\u{fff9}\\u{fffb}"),
            ("\u{e0000}\u{e007f}", "\\u{e0000}\\u{e007f}"),
            ("é\u{ad}\u{2060}ü", "é\\u{ad}\\u{2060}ü"),
        ] {
            assert_eq!(escape(text), safe);
        }
    }

    #[test]
    fn the_neighbours_of_hazards_stay() {
        for c in [' ', '~', '\u{a0}', '\u{200a}', '\u{2010}', '\u{2027}', '\u{202f}', '\u{205f}', '\u{2070}']
        {
            assert!(matches!(escape(c.encode_utf8(&mut [0; 4])), Cow::Borrowed(_)), "{c:?}");
        }
    }
}
