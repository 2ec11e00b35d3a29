//! The directory of a cgroup.

use std::{fs::File, io, path::Path};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

/// Opens the cgroup (version 2) at `path`, a directory of the cgroup file system. How that is mounted does not
/// matter: programs receive the directory itself.
///
/// # Errors
/// It is not such a directory.
pub fn open_cgroup(path: &Path) -> io::Result<File> {
    let directory = File::open(path)?;
    if fstatfs(&directory)?.filesystem_type() != CGROUP2_SUPER_MAGIC {
        return Err(io::Error::other(
            "it is not in a cgroup 2 file system (eBPF programs cannot identify cgroups of version 1)",
        ));
    }
    if !directory.metadata()?.is_dir() {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::open_cgroup;

    #[test]
    fn other_directories_are_refused() {
        for path in ["/proc", "/", "/nowhere"] {
            assert!(open_cgroup(Path::new(path)).is_err(), "{path}");
        }
    }
}
