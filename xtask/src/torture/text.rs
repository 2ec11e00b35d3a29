//! A process's code in memory, compared with the files that it comes from.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use super::system::living;

/// Places shown of a file.
const SHOWN: usize = 4;

/// An executable mapping of a file.
#[derive(Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
    file: String,
}

/// Executable mappings of files in the lines of a `maps` file.
fn mappings(maps: &str) -> Vec<Mapping> {
    maps.lines().filter_map(mapping).collect()
}

fn mapping(line: &str) -> Option<Mapping> {
    let mut fields = line.split_ascii_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let executable = fields.next()?.contains('x');
    let offset = fields.next()?;
    let file = fields.nth(2).filter(|file| file.starts_with('/'))?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    executable.then_some(Mapping {
        start: number(start)?,
        end: number(end)?,
        offset: number(offset)?,
        file: file.to_owned(),
    })
}

/// Where the code of a process differs from its files, a line for each file. Nothing if the process is gone, or if it
/// unmaps what is being read.
pub(super) fn differences(pid: u32) -> Vec<String> {
    let read = || -> io::Result<Vec<String>> {
        let directory = living(pid);
        let maps = fs::read_to_string(directory.join("maps"))?;
        let memory = File::open(directory.join("mem"))?;
        Ok(mappings(&maps).iter().filter_map(|mapping| difference(mapping, &memory).ok()?).collect())
    };
    read().unwrap_or_default()
}

fn difference(mapping: &Mapping, memory: &File) -> io::Result<Option<String>> {
    let mut now = vec![0; (mapping.end - mapping.start) as usize];
    memory.read_exact_at(&mut now, mapping.start)?;
    let file = File::open(&mapping.file)?;
    // What is past the file's end is zero.
    let mut before = vec![0; now.len()];
    let mut filled = 0;
    while let Some(rest) = before.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, mapping.offset + filled as u64)? {
            0 => break,
            bytes => filled += bytes,
        }
    }
    let places: Vec<String> = (mapping.offset..)
        .zip(before.iter().zip(&now))
        .filter(|(_, (before, now))| before != now)
        .map(|(offset, (before, now))| format!("{offset:#x} ({before:02x}, now {now:02x})"))
        .collect();
    let shown = places.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    Ok((!places.is_empty()).then(|| format!("{} of {}: {shown}", places.len(), mapping.file)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
558000000000-558000001000 r--p 00000000 fe:00 12 /bin/churn
558000001000-558000003000 r-xp 00001000 fe:00 12 /bin/churn
7f0000000000-7f0000001000 r-xp 00000000 00:00 0
7fff00000000-7fff00001000 r-xp 00000000 00:00 0 [vdso]
";

    #[test]
    fn code_of_files_is_found() {
        let expected = Mapping {
            start: 0x5580_0000_1000,
            end: 0x5580_0000_3000,
            offset: 0x1000,
            file: "/bin/churn".into(),
        };
        assert_eq!(mappings(MAPS), [expected]);
    }

    #[test]
    fn this_process_is_as_its_files_are() {
        assert_eq!(differences(std::process::id()), [""; 0]);
    }
}
