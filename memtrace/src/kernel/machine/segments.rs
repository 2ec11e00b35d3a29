//! Segments of System V shared memory.

use rustc_hash::FxHashMap;

use super::{descriptors::Sums, file::Roots};
use crate::profile::machine::{Holding, Owner, Place, ProcessMemory};

/// Bytes read of the table: 160 a segment.
const MAX_BYTES: u64 = 8 << 20;

/// Segments of this IPC namespace by who made them; `None` if the table cannot be read. Bytes are what is in memory.
pub(super) fn read(roots: &Roots, processes: &[ProcessMemory]) -> Option<Vec<Holding>> {
    let text = roots.proc("sysvipc/shm", MAX_BYTES)?;
    let names: FxHashMap<u32, &str> =
        processes.iter().map(|process| (process.owner.pid, process.owner.comm.as_str())).collect();
    Some(parse(&text, |pid| names.get(&pid).copied().unwrap_or_default().to_owned()))
}

/// `key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap`.
fn parse(text: &str, name: impl Fn(u32) -> String) -> Vec<Holding> {
    let mut sums = Sums::default();
    for line in text.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(4);
        let mut number = |skipped| fields.nth(skipped)?.parse::<u64>().ok();
        let (Some(creator), Some(attached), Some(bytes)) = (number(0), number(1), number(7)) else {
            continue;
        };
        let pid = u32::try_from(creator).unwrap_or(0);
        let owner = Owner { pid, comm: name(pid) };
        sums.add(Place::Segments(owner, attached == 0), bytes);
    }
    sums.holdings().collect()
}

#[cfg(test)]
mod tests {
    use super::parse;
    use crate::profile::machine::{Owner, Place};

    #[test]
    fn segments_by_who_made_them() {
        let text = "key shmid perms size cpid lpid nattch uid gid cuid cgid atime dtime ctime rss swap\n\
            0 1 600 9999 5 6 0 0 0 0 0 1 1 1 4096 0\n\
            0 2 600 9999 5 6 0 0 0 0 0 1 1 1 8192 0\n\
            0 3 600 9999 5 6 2 0 0 0 0 1 1 1 100 0\n\
            damaged\n";
        let mut found = parse(text, |_| String::new());
        found.sort_by_key(|holding| holding.bytes);
        let owner = Owner { pid: 5, comm: String::new() };
        let found: Vec<_> = found.into_iter().map(|of| (of.place, of.bytes, of.count)).collect();
        let expected =
            [(Place::Segments(owner.clone(), false), 100, 1), (Place::Segments(owner, true), 12_288, 2)];
        assert_eq!(found, expected);
    }
}
