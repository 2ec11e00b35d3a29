//! What words in blocks point to: types by their vtables, and variables.

use rustc_hash::FxHashMap;

use super::rtti::{Types, of_symbol};
use crate::{
    profile::{Hint, Root},
    sources::process::leaks::owners::readable,
    target::roots::RootNames,
};

/// Names that are remembered.
const REMEMBERED: usize = 1 << 16;
/// Bytes of text that are shown, and that make a text.
const MOST_TEXT: usize = 64;
const LEAST_TEXT: usize = 6;

/// What a word points to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Pointee {
    /// The vtable of this type.
    Type(String),
    /// This variable.
    Variable(String),
}

/// Names what words point to.
pub(super) struct PointeeNames<'a> {
    names: &'a RootNames,
    types: Types<'a>,
    known: FxHashMap<u64, Option<Pointee>>,
}

impl<'a> PointeeNames<'a> {
    pub(super) fn new(names: &'a RootNames, types: Types<'a>) -> Self {
        Self { names, types, known: FxHashMap::default() }
    }

    /// Whether a word may point to something of a file.
    pub(super) fn is_in_file(&self, word: u64) -> bool {
        self.types.file(word).is_some()
    }

    /// What a word points to, if that has a name.
    pub(super) fn pointee(&mut self, word: u64) -> Option<&Pointee> {
        if !self.is_in_file(word) {
            return None;
        }
        if !self.known.contains_key(&word) {
            if self.known.len() >= REMEMBERED {
                return None;
            }
            let symbol = match self.names.name(word) {
                Root::Data { symbol, .. } => symbol,
                _ => None,
            };
            let of_symbol = symbol.as_deref().and_then(type_of);
            let pointee = match of_symbol.or_else(|| self.types.name(word)) {
                Some(name) => Some(Pointee::Type(name)),
                None => symbol.map(|symbol| Pointee::Variable(readable(&symbol))),
            };
            self.known.insert(word, pointee);
        }
        self.known.get(&word)?.as_ref()
    }

    /// The type of a block that begins with this word.
    pub(super) fn type_name(&mut self, word: u64) -> Option<String> {
        match self.pointee(word)? {
            Pointee::Type(name) => Some(name.clone()),
            Pointee::Variable(_) => None,
        }
    }

    /// What a block holds that begins with these words. `contents`: whether its text may be shown.
    pub(super) fn hint(&mut self, words: &[u64], contents: bool) -> Option<Hint> {
        let text = || text(words).map(Hint::Text);
        let mut symbols = words.iter().filter_map(|&word| match self.pointee(word)? {
            Pointee::Variable(name) => Some(Hint::Symbol(name.clone())),
            Pointee::Type(_) => None,
        });
        if contents { text().or_else(|| symbols.next()) } else { symbols.next() }
    }
}

/// The type whose vtable a symbol is (Itanium C++ ABI, 5.1.4.1: `_ZTV` and the type's name).
fn type_of(symbol: &str) -> Option<String> {
    let name = symbol.strip_prefix("_ZTV")?;
    Some(of_symbol(name).unwrap_or_else(|| symbol.to_owned()))
}

/// The longest text in the first words of a block.
fn text(words: &[u64]) -> Option<String> {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).take(MOST_TEXT).collect();
    let is_text = |byte: &u8| byte.is_ascii_graphic() || *byte == b' ';
    let longest = bytes.split(|byte| !is_text(byte)).max_by_key(|part| part.len())?;
    // Of blanks and repetitions nothing can be learnt.
    let mut different = longest.to_vec();
    different.sort_unstable();
    different.dedup();
    (longest.len() >= LEAST_TEXT && different.len() > 2)
        .then(|| String::from_utf8_lossy(longest).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{text, type_of};

    #[test]
    fn types_by_vtables() {
        assert_eq!(type_of("_ZTVN3app7SessionE").as_deref(), Some("app::Session"));
        assert_eq!(type_of("_ZTV4Node").as_deref(), Some("Node"));
        assert_eq!(type_of("_ZTV"), Some("_ZTV".to_owned()));
        assert_eq!(type_of("g_table"), None);
    }

    #[test]
    fn texts_in_blocks() {
        let words = |text: &[u8]| -> Vec<u64> {
            let mut bytes = text.to_vec();
            bytes.resize(text.len().next_multiple_of(8), 0);
            bytes.chunks_exact(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect()
        };
        assert_eq!(text(&words(b"\x01\x02GET /index.html\0abc")).as_deref(), Some("GET /index.html"));
        assert_eq!(text(&words(b"abcde\0\xff\xfe")), None);
        assert_eq!(text(&words(b"                ")), None);
        assert_eq!(text(&words(&[b'x'; 100])), None);
        assert_eq!(text(&words(&b"0123456789".repeat(20))).map(|text| text.len()), Some(64));
        assert_eq!(text(&[]), None);
    }
}
