//! Files that the symbolizer can map without danger.
//!
//! blazesym maps files into memory, and reading a mapped file that somebody has truncated ends the process with SIGBUS.
//! So a file that others than root can write to is copied first, into memory that nobody else can reach.

use std::{
    fs::File,
    io::{self, Read as _},
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use nix::sys::memfd::{MFdFlags, memfd_create};
use rustc_hash::FxHashMap;

/// Larger files of others are not read: symbols are not worth more of the machine's memory.
const LARGEST: u64 = 1 << 30;

/// What became of each file asked for.
#[derive(Default)]
pub(super) struct Files {
    known: FxHashMap<PathBuf, Option<PathBuf>>,
    copies: Vec<File>,
}

impl Files {
    /// A path at which the contents of `path` can be mapped; `None` if they cannot. `foreign`: the file is of another
    /// mount namespace, whose root need not be this one's.
    pub(super) fn mappable(&mut self, path: &Path, foreign: bool) -> Option<PathBuf> {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        let place = self.place(path, foreign).unwrap_or_else(|error| {
            tracing::warn!("{} is not searched for symbols: {error}", path.display());
            None
        });
        self.known.insert(path.to_owned(), place.clone());
        place
    }

    fn place(&mut self, path: &Path, foreign: bool) -> io::Result<Option<PathBuf>> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        const WRITABLE_BY_OTHERS: u32 = 0o022;
        if !foreign && metadata.uid() == 0 && metadata.mode() & WRITABLE_BY_OTHERS == 0 {
            return Ok(Some(path.to_owned()));
        }
        if metadata.len() > LARGEST {
            return Err(io::Error::other("it is larger than 1 GiB, and not root's alone"));
        }
        let mut copy = File::from(memfd_create(c"memtrace", MFdFlags::MFD_CLOEXEC)?);
        io::copy(&mut file.take(LARGEST), &mut copy)?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", copy.as_raw_fd()));
        self.copies.push(copy);
        Ok(Some(place))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::Files;

    #[test]
    fn what_others_can_write_is_copied() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("library.so");
        fs::write(&path, b"contents").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let mut files = Files::default();
        let place = files.mappable(&path, false).unwrap();
        assert_ne!(place, path);
        fs::write(&path, b"").unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"contents");
        assert_eq!(files.mappable(&path, false), Some(place));
        assert_eq!(files.mappable(&directory.path().join("none"), false), None);
    }
}
