//! The id by which programs know a cgroup.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::Path};

/// Id and depth of the cgroup (version 2) at `path`, a directory of the cgroup file system.
///
/// # Errors
/// It is no such directory.
pub fn cgroup_id(path: &Path) -> io::Result<(u64, u32)> {
    let path = path.canonicalize()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let depth = depth(&mounts, &path).ok_or_else(|| {
        io::Error::other("it is not in a cgroup 2 file system (cgroups of version 1 have no such ids)")
    })?;
    Ok((fs::metadata(&path)?.ino(), depth))
}

/// How deep below a mount of a cgroup file system `path` lies.
fn depth(mounts: &str, path: &Path) -> Option<u32> {
    mounts
        .lines()
        .filter_map(|line| {
            let (mount, source) = line.split_once(" - ")?;
            let point = mount.split(' ').nth(4)?;
            source.starts_with("cgroup2 ").then_some(point)
        })
        .find_map(|point| u32::try_from(path.strip_prefix(point).ok()?.components().count()).ok())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::depth;

    #[test]
    fn depth_counts_from_the_mount() {
        let mounts = "29 24 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n\
                      30 29 0:27 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n";
        let of = |path| depth(mounts, Path::new(path));
        assert_eq!(of("/sys/fs/cgroup/unified"), Some(0));
        assert_eq!(of("/sys/fs/cgroup/unified/system.slice/x.service"), Some(2));
        assert_eq!(of("/sys/fs/cgroup/memory/x"), None);
    }
}
