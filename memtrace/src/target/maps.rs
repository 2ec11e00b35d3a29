//! A process's mappings, from /proc/PID/maps.

use std::io;

use super::lines::Lines;

/// More than any process has: the kernel's default limit is 65,530.
const MAX_LINES: usize = 1 << 20;
/// The longest line read: PATH_MAX, escaped to four times the size, and the numbers.
const MAX_LINE: u64 = 4 * 4096 + 256;

/// One mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    /// First address.
    pub(super) start: u64,
    /// Address after the last.
    pub(super) end: u64,
    /// Offset in the file.
    pub(super) offset: u64,
    /// Device and inode of the file; 0 if there is none.
    pub(super) inode: (u64, u64),
    /// Path as the target sees it, `[vdso]`, or empty.
    pub(super) name: String,
    /// What the target may do with it.
    pub(super) permissions: Permissions,
}

/// The letters of `rwxs`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Permissions {
    pub(super) readable: bool,
    pub(super) writable: bool,
    pub(super) executable: bool,
    /// Whether other processes see what is written.
    pub(super) shared: bool,
}

/// Reads the executable mappings of a process, in order of address.
///
/// # Errors
/// The process is gone, or access to /proc is denied.
pub(super) fn executable(pid: u32) -> io::Result<Vec<Mapping>> {
    let mut mappings = Vec::new();
    each(pid, |mapping| mappings.extend(Some(mapping).filter(|mapping| mapping.permissions.executable)))?;
    Ok(mappings)
}

/// Where the code of a process may be, in order of address.
#[derive(Debug, Default)]
pub(super) struct Code {
    /// What is executable.
    pub(super) executable: Vec<Mapping>,
    /// Other mappings of files, if some of what is executable has no file: it may be a copy.
    pub(super) others: Vec<Mapping>,
}

/// Reads the executable mappings of a process and those of its files.
///
/// # Errors
/// As [`executable`].
pub(super) fn code(pid: u32) -> io::Result<Code> {
    let mut code = Code::default();
    each(pid, |mapping| {
        if mapping.permissions.executable {
            code.executable.push(mapping);
        } else if mapping.inode.1 != 0 {
            code.others.push(mapping);
        }
    })?;
    if code.executable.iter().all(|mapping| mapping.inode.1 != 0 || !mapping.name.is_empty()) {
        code.others.clear();
    }
    Ok(code)
}

/// Passes all mappings of a process, or of the process of a thread, to `take`, in order of address.
///
/// # Errors
/// The process is gone, or access to /proc is denied.
pub(super) fn each(pid: u32, mut take: impl FnMut(Mapping)) -> io::Result<()> {
    let mut lines = Lines::open(&format!("/proc/{pid}/maps"), MAX_LINE)?;
    for _ in 0..MAX_LINES {
        let Some(line) = lines.next()? else { break };
        if let Some(mapping) = parse(line) {
            take(mapping);
        }
    }
    // The file is read in pieces, and ends early if the process exits meanwhile. Then this link is gone too.
    std::fs::read_link(format!("/proc/{pid}/exe"))?;
    Ok(())
}

/// Reads a line such as `7f12a000-7f12b000 r-xp 00001000 fe:01 1234   /lib/libc.so.6`; `None` if it is not one.
fn parse(line: &[u8]) -> Option<Mapping> {
    let text = String::from_utf8_lossy(line.strip_suffix(b"\n").unwrap_or(line));
    let mut rest = &*text;
    let mut field = || {
        let (field, after) = rest.trim_start_matches(' ').split_once(' ').unwrap_or((rest.trim(), ""));
        rest = after;
        field
    };
    let (start, end) = field().split_once('-')?;
    let permissions = field();
    let offset = u64::from_str_radix(field(), 16).ok()?;
    let (major, minor) = field().split_once(':')?;
    let inode = field().parse().ok()?;
    let device = |part| u64::from_str_radix(part, 16).ok();
    Some(Mapping {
        start: u64::from_str_radix(start, 16).ok()?,
        end: u64::from_str_radix(end, 16).ok()?,
        offset,
        inode: (device(major)? << 32 | device(minor)?, inode),
        name: rest.trim_start_matches(' ').to_owned(),
        permissions: Permissions {
            readable: permissions.contains('r'),
            writable: permissions.contains('w'),
            executable: permissions.contains('x'),
            shared: permissions.contains('s'),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::{Mapping, Permissions, parse};

    #[test]
    fn lines_of_every_kind() {
        let file =
            parse(b"7f5d5d73000-7f5d5ec8000 r-xp 00026000 fe:01 1234567      /lib/lib c.so (deleted)\n");
        assert_eq!(
            file,
            Some(Mapping {
                start: 0x7f5_d5d7_3000,
                end: 0x7f5_d5ec_8000,
                offset: 0x26000,
                inode: (0xfe << 32 | 1, 1_234_567),
                name: "/lib/lib c.so (deleted)".to_owned(),
                permissions: Permissions { readable: true, writable: false, executable: true, shared: false },
            })
        );
        let anonymous = parse(b"7f0000-7f1000 rwxp 00000000 00:00 0 \n").map(|mapping| mapping.name);
        assert_eq!(anonymous.as_deref(), Some(""));
        let guard = parse(b"7f0000-7f1000 ---s 00000000 00:00 0 \n").map(|mapping| mapping.permissions);
        let none = Permissions { readable: false, writable: false, executable: false, shared: true };
        assert_eq!(guard, Some(none));
        assert_eq!(parse(b"\n"), None);
        assert_eq!(parse(b"zz-7f1000 r-xp 0 0:0 0"), None);
        assert_eq!(parse(b"\xff\xfe-\xff r-xp 0 0:0"), None);
    }
}
