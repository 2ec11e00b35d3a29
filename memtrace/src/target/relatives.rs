//! The parent of a process, and when it started.

use std::{fs::File, io::Read as _};

/// Bytes of a `stat` file that are read: a name of at most 64 bytes and 22 numbers of at most 20 digits.
const HEAD: u64 = 512;

/// The parent of process `pid`; `None` if there is no such process, or it has exited.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    parent_of(&stat(pid)?)
}

fn stat(pid: u32) -> Option<String> {
    let mut text = Vec::new();
    File::open(format!("/proc/{pid}/stat")).ok()?.take(HEAD).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The fields after the name, which may contain anything: the state is the first.
fn fields(stat: &str) -> Option<impl Iterator<Item = &str>> {
    Some(stat.rsplit_once(')')?.1.split_ascii_whitespace())
}

fn parent_of(stat: &str) -> Option<u32> {
    let mut fields = fields(stat)?;
    let state = fields.next()?;
    fields.next()?.parse().ok().filter(|_| !matches!(state, "Z" | "X"))
}

#[cfg(test)]
mod tests {
    use super::{parent, parent_of};

    #[test]
    fn the_name_may_contain_anything() {
        assert_eq!(parent_of("12 (a) S 1 (b) R 34 12 12 0"), Some(34));
        assert_eq!(parent_of("12 (a) Z 34 12 12 0"), None);
        for damaged in ["", "12 (a", "12 (a)", "12 (a) S", "12 (a) S x"] {
            assert_eq!(parent_of(damaged), None, "{damaged}");
        }
    }

    #[test]
    fn ones_own() {
        assert_eq!(parent(std::process::id()), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent(0), None);
    }
}
