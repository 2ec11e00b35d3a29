//! The map that a runtime writes of the code it generates: a line `START SIZE NAME` for each function, numbers in hexadecimal
//! digits, later lines for code that took the place of earlier. Or a dump with the code itself ([`jitdump`]). Runs in the child,
//! on files of strangers.

mod jitdump;

use std::{collections::BTreeMap, fs::File, io, os::unix::fs::FileExt as _};

use super::{demangle::MOST as MOST_NAME, wire::Named};
use crate::profile::elide;

/// The most functions that are kept, and the longest file that is read.
const MOST: usize = 1 << 20;
const MOST_BYTES: u64 = 64 << 20;
/// What one entry of another's range may remove: whoever writes more overlaps than that is not a runtime.
const MOST_REMOVED: usize = 1 << 16;

/// Generated functions by address.
#[derive(Debug, Default)]
pub(super) struct Map {
    text: Vec<u8>,
    /// By first address: the one after the last, and where the name is in the text.
    functions: BTreeMap<u64, (u64, std::ops::Range<usize>)>,
    /// Source lines, in order of address, of functions whose names do not say.
    lines: BTreeMap<u64, Place>,
}

/// Where code from some address on is in its source.
#[derive(Clone, Debug)]
struct Place {
    line: u32,
    /// The file's name, as its place in the text.
    file: std::ops::Range<usize>,
}

impl Map {
    /// Reads a file of `size` bytes, or what of it is there.
    pub(super) fn read(file: &File, size: u64) -> io::Result<Self> {
        if jitdump::is_one(file) {
            return jitdump::read(file, size);
        }
        let size = usize::try_from(size.min(MOST_BYTES)).unwrap_or_default();
        let mut text = vec![0; size];
        let mut filled = 0;
        while let Some(rest) = text.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, filled as u64)? {
                0 => break,
                length => filled += length,
            }
        }
        text.truncate(filled);
        Ok(Self::parse(text))
    }

    fn parse(text: Vec<u8>) -> Self {
        let mut map = Self::default();
        let mut at = 0;
        for line in text.split_inclusive(|byte| *byte == b'\n') {
            let begin = at;
            at += line.len();
            let Some((start, end, name)) = entry(line) else { continue };
            if !map.add(start..end, begin + name.start..begin + name.end) {
                break;
            }
        }
        map.text = text;
        map
    }

    /// Adds a function, by the place of its name in the text. Returns whether there was room.
    fn add(&mut self, code: std::ops::Range<u64>, name: std::ops::Range<usize>) -> bool {
        // What was there before is no longer.
        let overlaps =
            self.functions.range(..code.end).rev().take_while(|(_, (other, _))| *other > code.start);
        let gone: Vec<u64> = overlaps.take(MOST_REMOVED).map(|(start, _)| *start).collect();
        for start in gone {
            if let Some((end, _)) = self.functions.remove(&start) {
                drop(self.take_lines(start..end));
            }
        }
        let has_room = self.functions.len() < MOST;
        if has_room {
            self.functions.insert(code.start, (code.end, name));
        }
        has_room
    }

    /// Removes the lines of some code.
    fn take_lines(&mut self, code: std::ops::Range<u64>) -> Vec<(u64, Place)> {
        if self.lines.is_empty() || code.is_empty() {
            return Vec::new();
        }
        let at: Vec<u64> = self.lines.range(code).map(|(at, _)| *at).collect();
        at.into_iter().filter_map(|at| self.lines.remove_entry(&at)).collect()
    }

    /// The function at an address.
    pub(super) fn find(&self, address: u64) -> Option<Named> {
        let (start, (end, name)) = self.functions.range(..=address).next_back()?;
        let name = self.text.get(name.clone()).filter(|_| address < *end)?;
        let mut described = describe(&String::from_utf8_lossy(name));
        if described.file.is_none()
            && let Some((_, place)) = self.lines.range(*start..=address).next_back()
        {
            let file =
                self.text.get(place.file.clone()).map(|file| String::from_utf8_lossy(file).into_owned());
            (described.file, described.line) = (file, Some(place.line));
        }
        let Described { function, file, line } = described;
        let short = |text: String| elide(&text, MOST_NAME).into_owned();
        Some(Named {
            function: Some(short(function)),
            start: Some(*start),
            file: file.map(short),
            line,
            inlined: false,
        })
    }
}

/// Range and name of a line, the latter as its place there.
fn entry(line: &[u8]) -> Option<(u64, u64, std::ops::Range<usize>)> {
    let line = line.strip_suffix(b"\n")?;
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let number = |digits: &[u8]| {
        let text = std::str::from_utf8(digits).ok()?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let (start, size, name) = (number(parts.next()?)?, number(parts.next()?)?, parts.next()?);
    let end = start.checked_add(size).filter(|_| size > 0 && !name.is_empty())?;
    Some((start, end, line.len() - name.len()..line.len()))
}

/// What a name says.
#[derive(Debug, PartialEq, Eq)]
struct Described {
    function: String,
    file: Option<String>,
    line: Option<u32>,
}

/// Takes a name apart, as V8 (`JS:*name file:line:column`), CPython (`py::name:file`) and others write it.
fn describe(name: &str) -> Described {
    if let Some((function, file)) = name.strip_prefix("py::").and_then(|rest| rest.rsplit_once(':')) {
        return Described { function: function.to_owned(), file: Some(file.to_owned()), line: None };
    }
    // Of V8: the kind of code, and the compiler that made it.
    let kinds = ["JS:", "LazyCompile:", "Function:", "Script:", "Eval:"];
    let Some(rest) = kinds.iter().find_map(|kind| name.strip_prefix(kind)) else {
        return Described { function: name.to_owned(), file: None, line: None };
    };
    let rest = rest.trim_start_matches(['*', '~', '^', '+', '-', '=']);
    let (function, place) = rest.split_once(' ').unwrap_or((rest, ""));
    let function = if function.is_empty() { "(anonymous)" } else { function };
    let numbers = || {
        let (rest, _column) = place.rsplit_once(':')?;
        let (file, line) = rest.rsplit_once(':')?;
        Some((file.strip_prefix("file://").unwrap_or(file), line.parse().ok()?))
    };
    let (file, line) = numbers().unzip();
    Described { function: function.to_owned(), file: file.map(str::to_owned), line }
}

#[cfg(test)]
mod tests {
    use super::{Described, MOST_NAME, Map, describe};

    fn at(map: &Map, address: u64) -> Option<String> {
        map.find(address).and_then(|named| named.function)
    }

    #[test]
    fn later_lines_take_the_place_of_earlier_ones() {
        let text = "1000 10 first\n1010 20 second one\n0x2000 8 third\n1008 10 over both\n3000 0 empty\nx 1 no\n4000 10\n";
        let map = Map::parse(format!("{text}5000 10 unfinished").into_bytes());
        let of = |address| at(&map, address);
        assert_eq!(of(0x1008).as_deref(), Some("over both"));
        assert_eq!(
            (of(0x1000), of(0x1018), of(0x3000), of(0x4000), of(0x5000)),
            (None, None, None, None, None)
        );
        assert_eq!((of(0x2007).as_deref(), of(0x2008)), (Some("third"), None));
        assert_eq!(map.find(0x2004).and_then(|named| named.start), Some(0x2000));
    }

    #[test]
    fn names_are_taken_apart() {
        let described = |function: &str, file: Option<&str>, line| Described {
            function: function.to_owned(),
            file: file.map(str::to_owned),
            line,
        };
        for (name, expected) in [
            ("JS:^retain /srv/app.js:12:31", described("retain", Some("/srv/app.js"), Some(12))),
            ("JS:~ file:///srv/a b.mjs:1:108", described("(anonymous)", Some("/srv/a b.mjs"), Some(1))),
            (
                "LazyCompile:*go node:internal/buffer:10:2",
                described("go", Some("node:internal/buffer"), Some(10)),
            ),
            ("py::handle:/srv/app.py", described("handle", Some("/srv/app.py"), None)),
            ("java.util.HashMap::put", described("java.util.HashMap::put", None, None)),
            ("JS:", described("(anonymous)", None, None)),
            ("py::", described("py::", None, None)),
        ] {
            assert_eq!(describe(name), expected, "{name}");
        }
    }

    #[test]
    fn what_is_no_map_is_none() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u8
        };
        for _ in 0..2000 {
            let text: Vec<u8> =
                (0..100).map(|_| b"0123 abf\n\xff:/~JS"[usize::from(random() % 15)]).collect();
            let map = Map::parse(text);
            let _ = (map.find(0), map.find(0xab), map.find(u64::MAX));
        }
        let long = format!("1000 10 {}\nffffffffffffffff 2 over the end\n", "x".repeat(3 * MOST_NAME));
        let map = Map::parse(long.into_bytes());
        assert!(at(&map, 0x1000).is_some_and(|name| name.len() <= MOST_NAME + 8));
        assert_eq!(at(&map, u64::MAX), None);
    }
}
