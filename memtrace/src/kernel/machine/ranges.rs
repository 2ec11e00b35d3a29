//! The mappings of a process with what of them is in memory.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
};

use super::file::Roots;
use crate::profile::machine::Range;

/// Mappings that are read: the default of `vm.max_map_count` is 65,530.
const MAX_RANGES: usize = 65_536;
/// Bytes of a line that are kept: a path may have 4 KiB.
const MAX_LINE: u64 = 8192;

/// Mappings of process `pid` by address; empty if they cannot be read. The kernel walks all its page tables for that, so it is
/// for a few processes only.
#[must_use]
pub fn ranges(roots: &Roots, pid: u32) -> Vec<Range> {
    let Ok(file) = File::open(roots.proc.join(pid.to_string()).join("smaps")) else { return Vec::new() };
    let (mut reader, mut line) = (BufReader::with_capacity(1 << 16, file), Vec::new());
    let mut ranges: Vec<Range> = Vec::new();
    loop {
        line.clear();
        let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
        if read.is_err() || line.is_empty() {
            return ranges;
        }
        let text = String::from_utf8_lossy(&line);
        if let Some(rss) = text.strip_prefix("Rss:") {
            let bytes = rss.trim().strip_suffix(" kB").and_then(|number| number.trim().parse::<u64>().ok());
            if let Some(last) = ranges.last_mut() {
                last.rss = bytes.unwrap_or(0).saturating_mul(1024);
            }
        } else if let Some(range) = heading(&text) {
            if ranges.len() >= MAX_RANGES {
                return ranges;
            }
            ranges.push(range);
        }
    }
}

/// `start-end permissions offset device inode name`.
fn heading(line: &str) -> Option<Range> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let address = |text| u64::from_str_radix(text, 16).ok();
    let (start, end) = (address(start)?, address(end)?);
    let permissions = fields.next()?;
    let inode = fields.nth(2)?;
    // Names that programs give to anonymous memory are no files: `[anon:…]`.
    let is_unnamed = fields.next().is_none_or(|name| name.starts_with("[anon"));
    Some(Range {
        start,
        end,
        is_writable: permissions.starts_with("rw"),
        is_guard: permissions.starts_with("---"),
        is_anonymous: inode == "0" && is_unnamed && permissions.ends_with('p'),
        rss: 0,
    })
}

#[cfg(test)]
mod tests {
    use super::{Range, heading, ranges};
    use crate::kernel::machine::Roots;

    #[test]
    fn headings_are_read() {
        let stack = heading("7f00-8f00 rw-p 00000000 00:00 0 \n").unwrap();
        let expected =
            Range { start: 0x7f00, end: 0x8f00, is_writable: true, is_anonymous: true, ..Range::default() };
        assert_eq!(stack, expected);
        assert!(heading("7f00-8f00 ---p 00000000 00:00 0 [anon:guard]\n").unwrap().is_guard);
        for line in ["7f00-8f00 rw-p 0 00:00 0 [heap]\n", "7f00-8f00 rw-s 0 00:01 5 /dev/zero (deleted)\n"] {
            assert!(!heading(line).unwrap().is_anonymous, "{line}");
        }
        assert_eq!(heading("Size:                  4 kB\n"), None);
    }

    #[test]
    fn this_process_has_mappings() {
        let found = ranges(&Roots::default(), std::process::id());
        assert!(found.len() > 3 && found.iter().any(|range| range.rss > 0));
        assert_eq!(ranges(&Roots::default(), u32::MAX), []);
    }
}
