//! What bounds the memory of a process besides its own limits: its cgroups, of version 1 or 2.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::machine::file::text;

/// Bytes read of a file: `memory.stat` of version 2 has about 2 KiB.
const MAX_BYTES: u64 = 64 << 10;
/// Larger values mean no limit: version 1 says 2^63 rounded down to pages.
pub(super) const UNLIMITED: u64 = 1 << 60;
/// Cgroups above a process's that are looked at.
pub(super) const MAX_DEPTH: usize = 32;

/// Memory that a cgroup uses, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CgroupUse {
    /// All that counts against its limit.
    pub current: u64,
    /// The part that is page cache of files, which the kernel gives up before it reaches the limit.
    pub cache: u64,
    /// The part that is shared memory and tmpfs.
    pub shmem: u64,
    /// The part that belongs to the kernel: page tables, stacks, slabs, sockets.
    pub kernel: u64,
}

impl CgroupUse {
    /// What cannot be given up.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.current.saturating_sub(self.cache)
    }
}

/// A limit on the memory of a cgroup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupLimit {
    /// The path in the hierarchy, as /proc/PID/cgroup has it.
    pub name: String,
    /// Its directory.
    pub directory: PathBuf,
    /// Bytes.
    pub bytes: u64,
    /// Whether processes are slowed down at it (`memory.high`); otherwise they are killed.
    pub slows: bool,
}

/// The cgroup that accounts the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryCgroup {
    mount: PathBuf,
    /// Path below the mount, as /proc/PID/cgroup has it.
    path: String,
    /// Whether it is of version 2.
    unified: bool,
}

impl MemoryCgroup {
    /// That of process `pid`, as far as this process sees it; `None` if it has none.
    #[must_use]
    pub fn of(pid: u32) -> Option<Self> {
        let groups = read_some(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let mounts = read_some(Path::new("/proc/self/mountinfo"))?;
        // A controller is in one of the two hierarchies only.
        [false, true].into_iter().find_map(|unified| {
            let found =
                Self { mount: mount(&mounts, unified)?, path: path(&groups, unified)?.to_owned(), unified };
            found.directory().join(found.file_of_use()).is_file().then_some(found)
        })
    }

    /// The path in the hierarchy.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.path
    }

    /// Whether it is of version 2.
    pub(super) fn is_unified(&self) -> bool {
        self.unified
    }

    /// The directory of the cgroup of version 2 that process `pid` is in, whichever version accounts its memory.
    pub(super) fn unified_directory(pid: u32) -> Option<(PathBuf, String)> {
        let groups = read_some(Path::new(&format!("/proc/{pid}/cgroup")))?;
        let mount = mount(&read_some(Path::new("/proc/self/mountinfo"))?, true)?;
        let path = path(&groups, true)?;
        Some((mount.join(path.trim_start_matches('/')), path.to_owned()))
    }

    fn file_of_use(&self) -> &'static str {
        if self.unified { "memory.current" } else { "memory.usage_in_bytes" }
    }

    fn directory(&self) -> PathBuf {
        self.mount.join(self.path.trim_start_matches('/'))
    }

    /// What it uses now; `None` if it is gone.
    #[must_use]
    pub fn usage(&self) -> Option<CgroupUse> {
        self.usage_in(&self.directory())
    }

    /// What one above it uses, the one of a limit.
    #[must_use]
    pub fn usage_of(&self, limit: &CgroupLimit) -> Option<CgroupUse> {
        self.usage_in(&limit.directory)
    }

    fn usage_in(&self, directory: &Path) -> Option<CgroupUse> {
        let current = number(&directory.join(self.file_of_use()))?;
        let stat = read_some(&directory.join("memory.stat"))?;
        Some(use_of(current, &stat, self.unified))
    }

    /// Its limits and those of the cgroups above it, the innermost first.
    #[must_use]
    pub fn limits(&self) -> Vec<CgroupLimit> {
        let files: &[(&str, bool)] = if self.unified {
            &[("memory.max", false), ("memory.high", true)]
        } else {
            &[("memory.limit_in_bytes", false)]
        };
        let mut limits = Vec::new();
        let path = PathBuf::from(&self.path);
        for above in path.ancestors().take(MAX_DEPTH) {
            let directory = self.mount.join(above.strip_prefix("/").unwrap_or(above));
            for &(file, slows) in files {
                if let Some(bytes) = number(&directory.join(file)).filter(|&bytes| bytes < UNLIMITED) {
                    let name = above.display().to_string();
                    limits.push(CgroupLimit { name, directory: directory.clone(), bytes, slows });
                }
            }
        }
        limits
    }
}

/// Where the hierarchy with the memory controller is mounted. A mount of a part of it does not count.
pub(super) fn mount(mounts: &str, unified: bool) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, place) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let kind = after.next()?;
        let is_it = if unified {
            kind == "cgroup2"
        } else {
            kind == "cgroup" && after.next_back()?.split(',').any(|option| option == "memory")
        };
        (is_it && root == "/").then(|| PathBuf::from(place))
    })
}

/// A process's path in the hierarchy with the memory controller.
pub(super) fn path(groups: &str, unified: bool) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':');
        let (number, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        let is_it = if unified {
            number == "0" && controllers.is_empty()
        } else {
            controllers.split(',').any(|controller| controller == "memory")
        };
        // One outside this process's namespace begins with `/..`.
        (is_it && path.starts_with('/') && !path.split('/').any(|part| part == "..")).then_some(path)
    })
}

/// Takes a `memory.stat` apart (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/memory.rst).
pub(super) fn use_of(current: u64, stat: &str, unified: bool) -> CgroupUse {
    let field = |name: &str| {
        let value = stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or(0_u64)
    };
    let (file, shmem) = match unified {
        true => (field("file"), field("shmem")),
        false => (field("total_cache"), field("total_shmem")),
    };
    let kernel = if unified { field("kernel").saturating_add(field("sock")) } else { 0 };
    // Page cache includes shared memory.
    CgroupUse { current, cache: file.saturating_sub(shmem), shmem, kernel }
}

fn number(path: &Path) -> Option<u64> {
    read_some(path)?.trim().parse().ok()
}

fn read_some(path: &Path) -> Option<String> {
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    text(path, MAX_BYTES)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{CgroupUse, MemoryCgroup, mount, path, use_of};

    const MOUNTS: &str = "35 25 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
        36 25 0:32 /part /elsewhere rw - cgroup2 cgroup2 rw\n\
        37 25 0:32 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";

    #[test]
    fn hierarchies_are_found() {
        assert_eq!(mount(MOUNTS, false), Some(PathBuf::from("/sys/fs/cgroup/memory")));
        assert_eq!(mount(MOUNTS, true), Some(PathBuf::from("/sys/fs/cgroup/unified")));
        assert_eq!(mount("35 25 0:31 / /x rw - cgroup cgroup rw,cpu\n", false), None);
    }

    #[test]
    fn paths_are_found() {
        let groups = "4:cpu,memory:/a:b/c\n3:cpuset:/\n0::/unit\n";
        assert_eq!((path(groups, false), path(groups, true)), (Some("/a:b/c"), Some("/unit")));
        assert_eq!(path("0::/../x\n", true), None);
        assert_eq!(path("", true), None);
    }

    #[test]
    fn uses_of_both_versions() {
        let second = "anon 5\nfile 100\nkernel 7\nsock 2\nshmem 40\nfile_mapped 9\n";
        let expected = CgroupUse { current: 200, cache: 60, shmem: 40, kernel: 9 };
        assert_eq!((use_of(200, second, true), expected.held()), (expected, 140));
        let first = "cache 1\nshmem 1\ntotal_cache 100\ntotal_shmem 40\n";
        assert_eq!(use_of(200, first, false), CgroupUse { kernel: 0, ..expected });
    }

    #[test]
    fn this_process_has_one_if_any_is_mounted() {
        if let Some(group) = MemoryCgroup::of(std::process::id()) {
            assert!(group.usage().is_some_and(|usage| usage.current > 0), "{group:?}");
            assert!(group.limits().iter().all(|limit| limit.bytes < 1 << 60));
        }
    }
}
