//! The parent of a process.

use super::usage::read_some;

/// The parent of process `pid`; `None` if there is no such process, or it has exited.
#[must_use]
pub fn parent(pid: u32) -> Option<u32> {
    parent_of(&read_some(&format!("/proc/{pid}/stat"))?)
}

/// State and parent come after the name, which may contain anything.
fn parent_of(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
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
