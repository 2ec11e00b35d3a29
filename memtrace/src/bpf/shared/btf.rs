//! Offsets of struct members in the running kernel, from its BTF.
//!
//! A pass over the types, without an index: only a few members are needed, once, and attaching should not wait until a
//! graph of 150,000 types to be built. Format: Documentation/bpf/btf.rst.

use std::fs;

pub(in crate::bpf) const MAGIC: u16 = 0xeb9f;
const KIND_STRUCT: u32 = 4;
const MEMBER: usize = 12;

/// In place of a member's name: the size of the struct.
pub(in crate::bpf) const SIZE: &str = "(size)";

/// A struct's member, to look for.
pub(in crate::bpf) type Member = (&'static str, &'static str);

/// Offsets in bytes of members in the running kernel, in the order given; `None` for one that is not found
/// (also when the kernel has no BTF), or is a bit field.
pub(in crate::bpf) fn member_offsets<const N: usize>(wanted: [Member; N]) -> [Option<u32>; N] {
    let Ok(btf) = fs::read("/sys/kernel/btf/vmlinux") else { return [None; N] };
    scan(&btf, wanted).unwrap_or([None; N])
}

pub(in crate::bpf) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_ne_bytes(*word))
}

fn scan<const N: usize>(btf: &[u8], wanted: [Member; N]) -> Option<[Option<u32>; N]> {
    let magic = u16::from_ne_bytes(*btf.first_chunk()?);
    if magic != MAGIC {
        return None;
    }
    let header = u32_at(btf, 4)? as usize;
    let section = |offset: usize, length: usize| -> Option<&[u8]> {
        let start = header.checked_add(u32_at(btf, offset)? as usize)?;
        btf.get(start..start.checked_add(u32_at(btf, length)? as usize)?)
    };
    let (mut types, strings) = (section(8, 12)?, section(16, 20)?);
    let is = |name: u32, text: &str| {
        strings
            .get(name as usize..)
            .and_then(|rest| rest.strip_prefix(text.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    };
    let mut found = [None; N];
    while types.len() >= MEMBER {
        let (name, info) = (u32_at(types, 0)?, u32_at(types, 4)?);
        let (kind, count) = (info >> 24 & 0x1f, (info & 0xffff) as usize);
        let extra = types.get(MEMBER..MEMBER + trailing(kind, count)?)?;
        if kind == KIND_STRUCT {
            for (found, (structure, member)) in found.iter_mut().zip(&wanted) {
                if found.is_none() && is(name, structure) {
                    *found = match *member {
                        SIZE => u32_at(types, 8),
                        member => offset_of(extra, info >> 31 != 0, |name| is(name, member)),
                    };
                }
            }
        }
        types = types.get(MEMBER + extra.len()..)?;
    }
    Some(found)
}

/// Bytes that follow a type's three words.
pub(in crate::bpf) fn trailing(kind: u32, count: usize) -> Option<usize> {
    Some(match kind {
        2 | 7..=12 | 16 | 18 => 0,
        1 | 14 | 17 => 4,
        3 => 12,
        6 | 13 => count * 8,
        KIND_STRUCT | 5 | 15 | 19 => count * 12,
        _ => return None,
    })
}

/// The offset in bytes of the first member for which `is` holds. `sized`: offsets have a bit field's size in
/// their upper byte.
fn offset_of(members: &[u8], sized: bool, is: impl Fn(u32) -> bool) -> Option<u32> {
    members.chunks_exact(MEMBER).find_map(|member| {
        let offset = u32_at(member, 8)?;
        let (bits, size) = if sized { (offset & 0xff_ffff, offset >> 24) } else { (offset, 0) };
        (is(u32_at(member, 0)?) && bits.is_multiple_of(8) && size == 0).then_some(bits / 8)
    })
}

#[cfg(test)]
mod tests {
    use super::{SIZE, scan};

    /// BTF of `struct s { int a; long b; int c:3; }` after an int type.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0s\0a\0b\0c\0";
        let words: [u32; 3 + 1 + 3 + 9] = [
            1,
            1 << 24,
            4,
            32, // int
            5,
            1 << 31 | 4 << 24 | 3,
            24, // struct s, with bit fields
            7,
            1,
            0, // a
            9,
            1,
            64, // b
            11,
            1,
            3 << 24 | 128, // c: 3 bits
        ];
        let mut bytes = vec![0x9f, 0xeb, 1, 0];
        for word in [24, 0, 4 * words.len() as u32, 4 * words.len() as u32, strings.len() as u32] {
            bytes.extend(word.to_ne_bytes());
        }
        words.iter().for_each(|word| bytes.extend(word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn members_are_found_by_name() {
        let wanted =
            [("s", "b"), ("s", "a"), ("s", "c"), ("s", "absent"), ("t", "a"), ("s", ""), ("s", SIZE)];
        assert_eq!(scan(&sample(), wanted), Some([Some(8), Some(0), None, None, None, None, Some(24)]));
    }

    #[test]
    fn damaged_btf_does_no_harm() {
        let whole = sample();
        for length in 0..whole.len() {
            let _ = scan(&whole[..length], [("s", "b")]);
        }
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 0xff;
            let _ = scan(&damaged, [("s", "b")]);
        }
    }

    #[test]
    fn the_running_kernel_has_tasks() {
        if std::path::Path::new("/sys/kernel/btf/vmlinux").exists() {
            let [tgid, absent] =
                super::member_offsets([("task_struct", "tgid"), ("task_struct", "nonsense")]);
            assert!(tgid.is_some() && absent.is_none());
        }
    }
}
