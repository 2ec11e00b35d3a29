//! The running kernel's types, from its BTF, by name: what a tracepoint's arguments are, where members lie, how large
//! structures are. Format: Documentation/bpf/btf.rst.

use rustc_hash::FxHashMap;

use crate::bpf::shared::btf::{MAGIC, trailing, u32_at};

const KIND_POINTER: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_PROTOTYPE: u32 = 13;

/// Bytes of a type's three words, and of a member.
const WORDS: usize = 12;
/// Anonymous structures in each other, at most: a bound for damaged BTF.
const DEPTH: u32 = 8;

/// Types, found by number, and those with a name that was asked for.
pub(super) struct Types<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Where each type begins; the first is number 1.
    starts: Vec<u32>,
    named: FxHashMap<(bool, &'a str), u32>,
}

struct Type<'a> {
    name: &'a str,
    kind: u32,
    /// Whether members' offsets carry a bit field's size in their upper byte.
    sized: bool,
    /// Size or type.
    word: u32,
    extra: &'a [u8],
}

impl<'a> Types<'a> {
    /// Reads BTF; `None` if it is none. Structures and typedefs can be asked for later if `keeps` says so of their name.
    pub(super) fn read(btf: &'a [u8], keeps: impl Fn(&str) -> bool) -> Option<Self> {
        if u16::from_ne_bytes(*btf.first_chunk()?) != MAGIC {
            return None;
        }
        let header = u32_at(btf, 4)? as usize;
        let section = |offset: usize, length: usize| -> Option<&'a [u8]> {
            let start = header.checked_add(u32_at(btf, offset)? as usize)?;
            btf.get(start..start.checked_add(u32_at(btf, length)? as usize)?)
        };
        let (types, strings) = (section(8, 12)?, section(16, 20)?);
        let mut all = Self { types, strings, starts: Vec::new(), named: FxHashMap::default() };
        let mut at = 0;
        while types.len() - at >= WORDS {
            all.starts.push(u32::try_from(at).ok()?);
            let number = all.starts.len() as u32;
            let one = all.at(at)?;
            if matches!(one.kind, KIND_STRUCT | KIND_TYPEDEF) && keeps(one.name) {
                all.named.entry((one.kind == KIND_STRUCT, one.name)).or_insert(number);
            }
            at += WORDS + one.extra.len();
        }
        Some(all)
    }

    fn at(&self, start: usize) -> Option<Type<'a>> {
        let (name, info) = (u32_at(self.types, start)?, u32_at(self.types, start + 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let extra = self.types.get(start + WORDS..start + WORDS + trailing(kind, count)?)?;
        let word = u32_at(self.types, start + 8)?;
        Some(Type { name: self.string(name), kind, sized: info >> 31 != 0, word, extra })
    }

    fn get(&self, number: u32) -> Option<Type<'a>> {
        self.at(*self.starts.get((number as usize).checked_sub(1)?)? as usize)
    }

    fn string(&self, at: u32) -> &'a str {
        let rest = self.strings.get(at as usize..).unwrap_or_default();
        let end = rest.iter().position(|byte| *byte == 0).unwrap_or_default();
        rest.get(..end).and_then(|name| str::from_utf8(name).ok()).unwrap_or_default()
    }

    /// Bytes of a structure.
    pub(super) fn size(&self, structure: &str) -> Option<u32> {
        Some(self.get(*self.named.get(&(true, structure))?)?.word)
    }

    /// Offset in bytes of a structure's member, in the structure itself or in unnamed ones in it.
    pub(super) fn offset(&self, structure: &str, member: &str) -> Option<u32> {
        self.offset_in(*self.named.get(&(true, structure))?, member, DEPTH)
    }

    fn offset_in(&self, number: u32, wanted: &str, depth: u32) -> Option<u32> {
        let structure = self.get(number)?;
        if depth == 0 || !matches!(structure.kind, KIND_STRUCT | KIND_UNION) {
            return None;
        }
        structure.extra.chunks_exact(WORDS).find_map(|member| {
            let (name, kind, offset) = (u32_at(member, 0)?, u32_at(member, 4)?, u32_at(member, 8)?);
            let (bits, field) =
                if structure.sized { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
            let bytes = (bits.is_multiple_of(8) && field == 0).then_some(bits / 8)?;
            match self.string(name) {
                "" => Some(bytes + self.offset_in(kind, wanted, depth - 1)?),
                name => (name == wanted).then_some(bytes),
            }
        })
    }

    /// Types of a tracepoint's arguments: the names of typedefs, `*` and a structure's name for pointers to one. `None`
    /// when this kernel has no such tracepoint.
    pub(super) fn arguments(&self, tracepoint: &str) -> Option<Vec<String>> {
        let typedef = self.get(*self.named.get(&(false, format!("btf_trace_{tracepoint}").as_str()))?)?;
        let pointer = self.get(typedef.word).filter(|one| one.kind == KIND_POINTER)?;
        let prototype = self.get(pointer.word).filter(|one| one.kind == KIND_PROTOTYPE)?;
        // The first is the tracepoint's own data.
        let arguments = prototype.extra.chunks_exact(8).skip(1);
        Some(arguments.map(|one| self.describe(u32_at(one, 4).unwrap_or_default())).collect())
    }

    fn describe(&self, number: u32) -> String {
        let Some(one) = self.plain(number) else { return String::new() };
        if one.kind != KIND_POINTER {
            return one.name.to_owned();
        }
        format!("*{}", self.plain(one.word).map_or("", |target| target.name))
    }

    /// A type without `const` and `volatile`.
    fn plain(&self, mut number: u32) -> Option<Type<'a>> {
        for _ in 0..DEPTH {
            let one = self.get(number)?;
            if !matches!(one.kind, KIND_CONST | KIND_VOLATILE) {
                return (one.kind != KIND_ARRAY).then_some(one);
            }
            number = one.word;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::Types;

    /// `struct s { int a; union { long b; struct t *c; }; }`, and a tracepoint
    /// `(void *, size_t, const struct t *, void *)`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0s\0a\0b\0c\0t\0size_t\0btf_trace_x\0";
        // Places in it.
        let (int, s, a, b, c, t, size, trace) = (1u32, 5, 7, 9, 11, 13, 15, 22);
        let kind = |kind: u32, count: u32| kind << 24 | count;
        #[rustfmt::skip]
        let words: Vec<u32> = vec![
            int, kind(1, 0), 4, 32,                       // 1: int
            s, kind(4, 2), 16, a, 1, 0, 0, 3, 64,         // 2: struct s
            0, kind(5, 2), 8, b, 1, 0, c, 5, 0,           // 3: union
            t, kind(4, 0), 0,                             // 4: struct t
            0, kind(2, 0), 4,                             // 5: struct t *
            size, kind(8, 0), 1,                          // 6: size_t
            0, kind(10, 0), 4,                            // 7: const struct t
            0, kind(2, 0), 7,                             // 8: const struct t *
            0, kind(2, 0), 0,                             // 9: void *
            0, kind(13, 4), 0, 0, 9, 0, 6, 0, 8, 0, 9,    // 10: prototype
            0, kind(2, 0), 10,                            // 11: pointer to it
            trace, kind(8, 0), 11,                        // 12: btf_trace_x
        ];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        let length = 4 * words.len() as u32;
        for word in [24, 0, length, length, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_of_unnamed_unions_are_found() {
        let bytes = sample();
        let types = Types::read(&bytes, |_| true).unwrap();
        assert_eq!(types.size("s"), Some(16));
        let offsets = ["a", "b", "c", "d"].map(|member| types.offset("s", member));
        assert_eq!(offsets, [Some(0), Some(8), Some(8), None]);
    }

    #[test]
    fn arguments_are_told_by_their_types() {
        let bytes = sample();
        let types = Types::read(&bytes, |name| name.starts_with("btf_trace_")).unwrap();
        assert_eq!(types.arguments("x").unwrap(), ["size_t", "*t", "*"]);
        assert_eq!(types.arguments("y"), None);
        assert_eq!(types.size("s"), None, "it was not asked for");
    }

    #[test]
    fn damaged_btf_does_no_harm() {
        let whole = sample();
        let look = |bytes: &[u8]| {
            if let Some(types) = Types::read(bytes, |_| true) {
                let _ = (types.offset("s", "b"), types.arguments("x"));
            }
        };
        (0..whole.len()).for_each(|length| look(&whole[..length]));
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            look(&damaged);
        }
    }
}
