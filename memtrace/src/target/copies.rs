//! Code that a program has copied to anonymous memory at the place of its file's, as it does to have it on large pages.

use std::{fs::File, os::unix::fs::FileExt as _};

use super::maps::Mapping;
use crate::elf::{Image, page_size};

/// Places that are compared, and bytes of each.
const PLACES: u64 = 64;
const BYTES: u64 = 64;

/// Mappings of files next to anonymous code, below and above it: if it is a copy, one of them is of its file.
pub(super) fn neighbours<'a>(
    code: &Mapping,
    others: &'a [Mapping],
) -> impl Iterator<Item = &'a Mapping> + use<'a> {
    let is_anonymous = code.inode.1 == 0 && code.name.is_empty();
    let after = others.partition_point(|mapping| mapping.start < code.start);
    let below = after.checked_sub(1).and_then(|index| others.get(index));
    let found = [below, others.get(after)];
    found.into_iter().flatten().filter(move |_| is_anonymous)
}

/// If a mapping is a copy of an image's code, what to add to an ELF virtual address to get an address in it, and its offset in
/// the file. `other` is a mapping of the image.
pub(super) fn of(thread: u32, code: &Mapping, image: &Image, other: &Mapping) -> Option<(u64, u64)> {
    let bias = image.bias_of_any(other.start, other.offset)?;
    let first = code.start.wrapping_sub(bias);
    let page = page_size();
    let (floor, ceiling) = (|at: u64| at & !(page - 1), |at: u64| at.checked_next_multiple_of(page));
    let segment = image.segments().iter().find(|segment| {
        let end = segment.address.checked_add(segment.file_size).and_then(ceiling);
        let last = first.checked_add(code.end - code.start);
        floor(segment.address) <= first && last.zip(end).is_some_and(|(last, end)| last <= end)
    })?;
    let begin = first.max(segment.address);
    let length = (segment.address + segment.file_size).checked_sub(begin)?.min(code.end - code.start);
    is_equal(thread, image, bias, begin..begin.checked_add(length)?)
        .then(|| (bias, segment.offset.wrapping_add(first).wrapping_sub(segment.address)))
}

/// Whether memory has what the file has, at places all over a range.
fn is_equal(thread: u32, image: &Image, bias: u64, range: std::ops::Range<u64>) -> bool {
    let Ok(memory) = File::open(format!("/proc/{thread}/mem")) else { return false };
    let step = ((range.end - range.start) / PLACES).max(BYTES);
    let mut compared = 0;
    for place in (0..PLACES).filter_map(|number| range.start.checked_add(number * step)) {
        if place >= range.end {
            break;
        }
        let Ok(wanted) = image.code(place, BYTES.min(range.end - place)) else { return false };
        let mut found = vec![0; wanted.len()];
        if memory.read_exact_at(&mut found, place.wrapping_add(bias)).is_err() || found != wanted {
            return false;
        }
        compared += u64::from(wanted.iter().any(|byte| *byte != 0));
    }
    compared > 0
}

#[cfg(test)]
mod tests {
    use super::neighbours;
    use crate::target::maps::{Mapping, Permissions};

    fn mapping(start: u64, inode: u64, name: &str) -> Mapping {
        let permissions =
            Permissions { readable: true, writable: false, executable: inode == 0, shared: false };
        Mapping {
            start,
            end: start + 0x1000,
            offset: 0,
            inode: (1, inode),
            name: name.to_owned(),
            permissions,
        }
    }

    #[test]
    fn only_anonymous_code_has_neighbours() {
        let others = [mapping(0x1000, 5, "/a"), mapping(0x5000, 6, "/b"), mapping(0x9000, 7, "/c")];
        let of = |code: &Mapping| neighbours(code, &others).map(|found| found.inode.1).collect::<Vec<_>>();
        assert_eq!(of(&mapping(0x3000, 0, "")), [5, 6]);
        assert_eq!(of(&mapping(0, 0, "")), [5]);
        assert_eq!(of(&mapping(0xa000, 0, "")), [7]);
        assert_eq!(of(&mapping(0x3000, 0, "[vdso]")), [0; 0]);
        assert_eq!(of(&mapping(0x3000, 8, "/d")), [0; 0]);
    }
}
