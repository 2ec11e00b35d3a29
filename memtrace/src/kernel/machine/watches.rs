//! inotify watches, and what they keep in memory.
//!
//! Each watch is a mark (`struct inotify_inode_mark`), and holds a reference on its inode, which the kernel can give up no more
//! (fs/notify/mark.c). All marks of an inode share one connector and one inode.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
};

use rustc_hash::{FxHashMap, FxHashSet};

use super::file::{Roots, number};
use crate::profile::machine::{Holding, Missing, Owner, Place};

/// Watches that are read, of all processes together: the largest default of fs.inotify.max_user_watches
/// (fs/notify/inotify/inotify_user.c).
const MAX_WATCHES: u64 = 1 << 20;
/// Inodes that are told apart; of more, each counts as one of its own.
const MAX_INODES: usize = 1 << 19;
/// Bytes of a line: the handle of a file takes up to 256 of them.
const MAX_LINE: u64 = 1024;
/// Bytes of a table of mounts that are read.
const MAX_MOUNTS: u64 = 4 << 20;
/// Watches from which on other names of their caches are looked up.
const MANY: u64 = 1024;
/// Slab caches of what a watch takes: the mark, and what joins the marks of an inode to it; and their sizes where the kernel does
/// not show them (x86-64, Linux 6.18).
const MARK: (&str, u64) = ("inotify_inode_mark", 80);
const CONNECTOR: (&str, u64) = ("fsnotify_mark_connector", 24);
/// The size of an inode where it is not shown: a `struct inode` and what a file system adds, at least.
const INODE: u64 = 600;

/// Watches by process.
#[derive(Debug, Default)]
pub(super) struct Watches {
    /// For each process, how many there are, and how many inodes of which device nobody before it watches.
    of: FxHashMap<Owner, (u64, FxHashMap<u64, u64>)>,
    /// Device and inode.
    seen: FxHashSet<(u64, u64)>,
    read: u64,
    is_cut: bool,
}

impl Watches {
    /// Adds those of a descriptor by what the kernel says of it. An inherited descriptor counts in each process, its inodes once.
    pub(super) fn add(&mut self, owner: &Owner, information: &Path) {
        let Ok(file) = File::open(information) else { return };
        let (mut reader, mut line) = (BufReader::with_capacity(1 << 16, file), Vec::new());
        loop {
            line.clear();
            let read = reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line);
            if read.is_err() || line.is_empty() {
                return;
            }
            let Some(inode) = std::str::from_utf8(&line).ok().and_then(watched) else { continue };
            if self.read >= MAX_WATCHES {
                self.is_cut = true;
                return;
            }
            self.read += 1;
            let (count, inodes) = self.of.entry(owner.clone()).or_default();
            *count += 1;
            if self.seen.len() >= MAX_INODES || self.seen.insert(inode) {
                *inodes.entry(inode.0).or_default() += 1;
            }
        }
    }

    /// What they take, and the caches that this is in.
    pub(super) fn holdings(self, roots: &Roots, missing: &mut Vec<Missing>) -> (Vec<Holding>, Vec<String>) {
        if self.is_cut {
            missing.push(Missing::Watches(MAX_WATCHES));
        }
        if self.of.is_empty() {
            return (Vec::new(), Vec::new());
        }
        let mounts = roots.proc("self/mountinfo", MAX_MOUNTS).unwrap_or_default();
        let kinds = file_systems(&mounts);
        let cache = |device: &u64| inode_cache(kinds.get(device).copied().unwrap_or_default());
        let (mark, connector) = (size(roots, MARK), size(roots, CONNECTOR));
        let mut caches = vec![MARK.0.to_owned(), CONNECTOR.0.to_owned()];
        let mut holdings = Vec::new();
        for (owner, (count, devices)) in &self.of {
            let mut bytes = count.saturating_mul(mark);
            for (device, inodes) in devices {
                let name = cache(device);
                let inode = size(roots, (name, INODE)).saturating_add(connector);
                bytes = bytes.saturating_add(inodes.saturating_mul(inode));
                if !caches.iter().any(|cache| cache == name) {
                    caches.push(name.to_owned());
                }
            }
            holdings.push(Holding { place: Place::Watches(owner.clone()), bytes, count: *count });
        }
        if self.read >= MANY {
            caches = with_aliases(roots, caches);
        }
        (holdings, caches)
    }
}

/// Device and inode of a line `inotify wd:1 ino:5a sdev:fd00001 mask:2 …`, all in hexadecimal (Documentation/filesystems/proc.rst).
fn watched(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.strip_prefix("inotify ")?.split_ascii_whitespace();
    let mut field =
        |name: &str| fields.find_map(|field| u64::from_str_radix(field.strip_prefix(name)?, 16).ok());
    let inode = field("ino:")?;
    Some((field("sdev:")?, inode))
}

/// The kind of each file system, by its device as the kernel keeps it: 12 bits of major number above 20 of minor
/// (include/linux/kdev_t.h).
fn file_systems(mounts: &str) -> FxHashMap<u64, &str> {
    let of = |line| {
        let (before, after) = str::split_once(line, " - ")?;
        let (major, minor) = before.split(' ').nth(2)?.split_once(':')?;
        let device = major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?;
        Some((device, after.split(' ').next()?))
    };
    mounts.lines().filter_map(of).collect()
}

/// The slab cache of the inodes of a kind of file system, as its driver names it. Of an overlay only its own inode counts.
fn inode_cache(kind: &str) -> &'static str {
    match kind {
        "ext2" | "ext3" | "ext4" => "ext4_inode_cache",
        "xfs" => "xfs_inode",
        "btrfs" => "btrfs_inode",
        "f2fs" => "f2fs_inode_cache",
        "tmpfs" | "devtmpfs" => "shmem_inode_cache",
        "overlay" => "ovl_inode",
        "proc" => "proc_inode_cache",
        "nfs" | "nfs4" => "nfs_inode_cache",
        "vfat" => "fat_inode_cache",
        _ => "inode_cache",
    }
}

/// What an object of a cache takes, with what the allocator adds.
fn size(roots: &Roots, (cache, otherwise): (&str, u64)) -> u64 {
    number(&roots.sys.join("kernel/slab").join(cache).join("slab_size")).unwrap_or(otherwise)
}

/// The caches by all names: the kernel merges those of one size, /proc/slabinfo has one name of each, and /sys has a link to it for
/// every name.
fn with_aliases(roots: &Roots, caches: Vec<String>) -> Vec<String> {
    let directory = roots.sys.join("kernel/slab");
    let target = |name: &str| std::fs::read_link(directory.join(name)).ok();
    let targets: Vec<_> = caches.iter().filter_map(|cache| target(cache)).collect();
    let entries = std::fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let others = names.filter(|name| target(name).is_some_and(|target| targets.contains(&target)));
    let others: Vec<String> = others.filter(|name| !caches.contains(name)).collect();
    caches.into_iter().chain(others).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::{MANY, MAX_WATCHES, Watches, watched};
    use crate::{
        kernel::machine::Roots,
        profile::machine::{Missing, Owner, Place},
    };

    fn owner(pid: u32) -> Owner {
        Owner { pid, comm: "x".to_owned() }
    }

    #[test]
    fn lines_of_watches() {
        let line = "inotify wd:3 ino:9e7e sdev:800013 mask:800afce ignored_mask:0 fhandle-bytes:8\n";
        assert_eq!(watched(line), Some((0x80_0013, 0x9e7e)));
        for line in ["pos:\t0\n", "inotify wd:3 ino:9e7e\n", "inotify wd:3 ino:x sdev:1\n", ""] {
            assert_eq!(watched(line), None, "{line}");
        }
    }

    #[test]
    fn marks_count_for_each_and_inodes_once() {
        let directory = tempfile::tempdir().unwrap();
        let roots = Roots { proc: directory.path().into(), sys: directory.path().join("sys") };
        let slabs = directory.path().join("sys/kernel/slab");
        for (name, size) in [(":a", "100"), (":b", "32"), ("ext4_inode_cache", "1000"), (":c", "0")] {
            fs::create_dir_all(slabs.join(name)).unwrap();
            fs::write(slabs.join(name).join("slab_size"), size).unwrap();
        }
        for (link, to) in
            [("inotify_inode_mark", ":a"), ("other", ":a"), ("fsnotify_mark_connector", ":b"), ("none", ":c")]
        {
            symlink(to, slabs.join(link)).unwrap();
        }
        fs::create_dir_all(directory.path().join("self")).unwrap();
        let mounts = "25 1 253:1 / / rw - ext4 /dev/vda rw\n26 1 0:40 / /x rw - odd odd rw\n";
        fs::write(directory.path().join("self/mountinfo"), mounts).unwrap();
        let information = directory.path().join("fdinfo");
        let lines: String =
            (0..MANY).map(|inode| format!("inotify wd:1 ino:{inode:x} sdev:fd00001 mask:2\n")).collect();
        fs::write(&information, format!("pos:\t0\n{lines}inotify wd:2 ino:1 sdev:28 mask:2\n")).unwrap();
        let mut watches = Watches::default();
        watches.add(&owner(5), &information);
        watches.add(&owner(6), &information);
        watches.add(&owner(7), &directory.path().join("gone"));
        let mut missing = Vec::new();
        let (mut holdings, caches) = watches.holdings(&roots, &mut missing);
        assert_eq!(missing, []);
        holdings.sort_by_key(|holding| std::cmp::Reverse(holding.bytes));
        let found: Vec<_> =
            holdings.into_iter().map(|holding| (holding.place, holding.count, holding.bytes)).collect();
        // 1,024 inodes of ext4, one of a file system that is not known.
        let both = MANY * (100 + 32 + 1000) + 100 + 32 + 600;
        let expected = [
            (Place::Watches(owner(5)), MANY + 1, both),
            (Place::Watches(owner(6)), MANY + 1, (MANY + 1) * 100),
        ];
        assert_eq!(found, expected);
        for (cache, is_one) in [("ext4_inode_cache", true), ("other", true), ("none", false)] {
            assert_eq!(caches.iter().any(|name| name == cache), is_one, "{cache}: {caches:?}");
        }
        // What is not read is said.
        let mut watches = Watches { read: MAX_WATCHES - MANY, ..Watches::default() };
        watches.add(&owner(5), &information);
        let (holdings, _) = watches.holdings(&roots, &mut missing);
        assert_eq!((missing, holdings[0].count), (vec![Missing::Watches(MAX_WATCHES)], MANY));
    }
}
