//! Keys, from the bytes that a terminal sends.

/// A key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A character.
    Char(char),
    /// A letter with the control key.
    Control(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Backspace.
    Backspace,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
}

const ESCAPE: u8 = 0x1b;

/// The keys that bytes stand for: one read of a terminal, which sends the sequence of a key at once. Sequences that mean
/// nothing here are skipped.
#[must_use]
pub fn keys(bytes: &[u8]) -> Vec<Key> {
    let mut keys = Vec::new();
    let mut rest = bytes;
    while let Some((&first, after)) = rest.split_first() {
        let (key, length) = match (first, after.first()) {
            (ESCAPE, Some(b'[' | b'O')) => sequence(rest),
            (ESCAPE, _) => (Some(Key::Escape), 1),
            (b'\r' | b'\n', _) => (Some(Key::Enter), 1),
            (0x7f | 0x08, _) => (Some(Key::Backspace), 1),
            (1..=26, _) => (Some(Key::Control(char::from(first - 1 + b'a'))), 1),
            (0 | 27..=31, _) => (None, 1),
            _ => character(rest),
        };
        keys.extend(key);
        rest = rest.get(length.max(1)..).unwrap_or_default();
    }
    keys
}

/// A key that is sent as `ESC [`, parameters and a final byte, or as `ESC O` and a byte; and the length of that.
fn sequence(bytes: &[u8]) -> (Option<Key>, usize) {
    let is_final = |byte: &u8| (0x40..=0x7e).contains(byte);
    let Some(end) = bytes.iter().skip(2).position(is_final) else { return (None, bytes.len()) };
    let length = end + 3;
    let parameters = bytes.get(2..length - 1).unwrap_or_default();
    let key = match (bytes.get(length - 1), parameters) {
        (Some(b'A'), _) => Key::Up,
        (Some(b'B'), _) => Key::Down,
        (Some(b'H'), _) | (Some(b'~'), [b'1' | b'7', ..]) => Key::Home,
        (Some(b'F'), _) | (Some(b'~'), [b'4' | b'8', ..]) => Key::End,
        (Some(b'~'), [b'5', ..]) => Key::PageUp,
        (Some(b'~'), [b'6', ..]) => Key::PageDown,
        (Some(b'M'), b"") => Key::Enter,
        _ => return (None, length),
    };
    (Some(key), length)
}

/// A character in UTF-8, and its length.
fn character(bytes: &[u8]) -> (Option<Key>, usize) {
    (1..=bytes.len().min(4))
        .find_map(|length| {
            let text = std::str::from_utf8(bytes.get(..length)?).ok()?;
            Some((text.chars().next().filter(|c| !c.is_control()).map(Key::Char), length))
        })
        .unwrap_or((None, 1))
}

#[cfg(test)]
mod tests {
    use super::{Key, keys};

    #[test]
    fn bytes_are_keys() {
        let read = keys(b"q\x1b[A\x1bOB\x1b[5~\x1b[6~\x1b[H\x1b[4~\r\x7f\x03 \xc3\xa9");
        let all = [
            Key::Char('q'),
            Key::Up,
            Key::Down,
            Key::PageUp,
            Key::PageDown,
            Key::Home,
            Key::End,
            Key::Enter,
            Key::Backspace,
            Key::Control('c'),
            Key::Char(' '),
            Key::Char('\u{e9}'),
        ];
        assert_eq!(read, all);
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
    }

    #[test]
    fn what_is_unknown_or_cut_off_is_skipped() {
        // A mouse, a key with modifiers, half a sequence, half a character.
        assert_eq!(keys(b"\x1b[<0;1;1Mx"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b[1;5Cx"), [Key::Char('x')]);
        assert_eq!(keys(b"\x1b[1"), []);
        assert_eq!(keys(b"\xc3"), []);
        for byte in 0..=255 {
            let _ = keys(&[byte, 0x1b, byte, b'[', byte]);
        }
    }
}
