//! Every cgroup that accounts memory, of version 1 or 2.

use std::{
    collections::VecDeque,
    fs,
    path::{Path, PathBuf},
};

use super::{
    super::limits,
    file::{Roots, number, pressure, text},
};
use crate::profile::machine::{Bound, BoundKind, CgroupMemory};

/// Cgroups that are read: the shallowest.
const MAX_CGROUPS: usize = 2048;
/// Bytes read of a file.
const MAX_BYTES: u64 = 1 << 20;

/// The hierarchy with the memory controller.
#[derive(Debug)]
pub(super) struct Hierarchy {
    mount: PathBuf,
    /// Whether it is of version 2.
    pub unified: bool,
}

impl Hierarchy {
    /// The one that this process sees. Version 1 has it if it is mounted.
    pub(super) fn find(roots: &Roots) -> Option<Self> {
        let mounts = roots.proc("self/mountinfo", MAX_BYTES)?;
        [false, true].into_iter().find_map(|unified| {
            let mount = limits::mount(&mounts, unified)?;
            let has_memory = !unified
                || text(&mount.join("cgroup.controllers"), 4096)?
                    .split_ascii_whitespace()
                    .any(|controller| controller == "memory");
            has_memory.then_some(Self { mount, unified })
        })
    }

    /// Its cgroups, and their limits.
    pub(super) fn read(&self) -> (Vec<CgroupMemory>, Vec<Bound>) {
        let (mut groups, mut bounds) = (Vec::new(), Vec::new());
        let mut queue = VecDeque::from([(self.mount.clone(), 0)]);
        let mut seen = 1;
        while let Some((directory, depth)) = queue.pop_front() {
            if let Some(group) = self.group(&directory) {
                // What cannot be given up.
                let used = group.current.saturating_sub(group.cache);
                let max = group.max.map(|bytes| (BoundKind::CgroupMax(group.path.clone()), bytes));
                let high = group.high.map(|bytes| (BoundKind::CgroupHigh(group.path.clone()), bytes));
                let both = max.into_iter().chain(high);
                bounds.extend(both.map(|(kind, bytes)| Bound { kind, bytes, used }));
                groups.push(group);
            }
            if depth >= limits::MAX_DEPTH {
                continue;
            }
            let entries = fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok);
            for entry in entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                if seen < MAX_CGROUPS {
                    seen += 1;
                    queue.push_back((entry.path(), depth + 1));
                }
            }
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.current));
        (groups, bounds)
    }

    /// One cgroup; `None` if it is gone, or accounts nothing, as the root of version 2.
    fn group(&self, directory: &Path) -> Option<CgroupMemory> {
        let names = match self.unified {
            true => ["memory.current", "memory.max", "memory.high"],
            false => ["memory.usage_in_bytes", "memory.limit_in_bytes", ""],
        };
        let value = |name: &str| number(&directory.join(name)).filter(|&bytes| bytes < limits::UNLIMITED);
        let [current, max, high] = names.map(|name| if name.is_empty() { None } else { value(name) });
        let stat = text(&directory.join("memory.stat"), MAX_BYTES)?;
        let usage = limits::use_of(current?, &stat, self.unified);
        let below = directory.strip_prefix(&self.mount).ok()?;
        Some(CgroupMemory {
            path: format!("/{}", below.display()),
            current: usage.current,
            cache: usage.cache,
            shmem: usage.shmem,
            kernel: usage.kernel,
            max,
            high,
            swap_max: self.swap_max(directory, max),
            pressure: pressure(&directory.join("memory.pressure")),
        })
    }

    /// Swap that its processes may use besides its limit; `None` without a limit. Version 1 limits the sum of both.
    fn swap_max(&self, directory: &Path, max: Option<u64>) -> Option<u64> {
        let file = if self.unified { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
        let bytes = number(&directory.join(file)).filter(|&bytes| bytes < limits::UNLIMITED)?;
        Some(if self.unified { bytes } else { bytes.saturating_sub(max.unwrap_or(0)) })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::Hierarchy;
    use crate::{
        kernel::machine::Roots,
        profile::machine::{Bound, BoundKind},
    };

    #[test]
    fn cgroups_of_version_2() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let group = root.join("cgroup/a.slice/b");
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(root.join("self")).unwrap();
        fs::write(root.join("cgroup/cgroup.controllers"), "cpu memory\n").unwrap();
        fs::write(
            root.join("self/mountinfo"),
            format!("36 25 0:32 / {} rw - cgroup2 cgroup2 rw\n", root.join("cgroup").display()),
        )
        .unwrap();
        for (name, text) in [
            ("memory.current", "1000\n"),
            ("memory.max", "max\n"),
            ("memory.high", "4000\n"),
            ("memory.swap.max", "500\n"),
            ("memory.stat", "anon 1\nfile 300\nshmem 100\nkernel 7\nsock 2\n"),
            ("memory.pressure", "some avg10=12.50 avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00\n"),
        ] {
            fs::write(group.join(name), text).unwrap();
        }
        let roots = Roots { proc: root.into(), sys: root.into() };
        let hierarchy = Hierarchy::find(&roots).unwrap();
        let (groups, bounds) = hierarchy.read();
        assert_eq!(groups.len(), 1, "{groups:?}");
        let found = &groups[0];
        assert_eq!((found.path.as_str(), found.cache, found.kernel), ("/a.slice/b", 200, 9));
        assert_eq!((found.max, found.high, found.pressure), (None, Some(4000), Some(0.125)));
        assert_eq!(found.swap_max, Some(500));
        let expected = Bound { kind: BoundKind::CgroupHigh("/a.slice/b".to_owned()), bytes: 4000, used: 800 };
        assert_eq!(bounds, [expected]);
    }
}
