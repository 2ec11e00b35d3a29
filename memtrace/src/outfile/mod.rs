//! Creates files for the user safely, often as root and in directories where others may write.
//!
//! Invariants:
//!
//! - A file under its final name is always complete: it is written and synced first, and then put in place. A process that
//!   is killed leaves the old file or the new one.
//! - No symbolic link of another user is followed: the directory is resolved part by part and held open, and in it
//!   nothing is opened by an existing name.
//! - Only regular files of the same owner are replaced.
//! - Other users cannot read the file (mode 0600).

mod directory;
mod error;
mod temporary;

#[cfg(test)]
mod tests;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io::Write as _,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::MetadataExt as _},
    },
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::AtFlags,
    sys::stat::{SFlag, fstatat},
};

pub use error::Error;
use temporary::Temporary;

/// Attempts to put a file in place if another one appears there meanwhile.
const ATTEMPTS: usize = 3;

/// The destination of a file: a name in a directory that is held open.
#[derive(Debug)]
pub struct Destination {
    path: PathBuf,
    directory: OwnedFd,
    name: OsString,
}

impl Destination {
    /// Finds the directory, and makes sure that a file can be created there and put in place. Nothing is left there.
    ///
    /// # Errors
    /// The directory cannot be opened or written to, a link on the way belongs to another user, or something that must
    /// not be replaced has the name.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let (directory, name) = split(path).ok_or_else(|| Error::Directory { path: path.into() })?;
        let destination =
            Self { path: path.into(), directory: directory::open(directory)?, name: name.to_owned() };
        destination.owner()?;
        let trial = destination.create()?;
        destination.is_taken(&trial)?;
        Ok(destination)
    }

    /// Puts a file with these contents in place, replacing an existing one.
    ///
    /// # Errors
    /// The file cannot be written, or something that must not be replaced has the name. The old file is unchanged.
    pub fn replace(&self, contents: &[u8]) -> Result<Placed, Error> {
        self.put(self.create()?, contents)
    }

    fn create(&self) -> Result<Temporary, Error> {
        Temporary::create(&self.directory)
            .map_err(|source| Error::Create { path: self.path.clone(), source: source.into() })
    }

    fn put(&self, mut new: Temporary, contents: &[u8]) -> Result<Placed, Error> {
        let failed = |source| Error::Write { path: self.path.clone(), source };
        new.file().write_all(contents).and_then(|()| new.file().sync_all()).map_err(failed)?;
        for attempt in 1.. {
            let replace = self.is_taken(&new)?;
            match new.put(&self.directory, &self.name, replace) {
                Err(Errno::EEXIST) if attempt < ATTEMPTS => {}
                Err(error) => return Err(failed(error.into())),
                Ok(()) => break,
            }
        }
        let file = new.into_file();
        let status = file.metadata().map_err(failed)?;
        let found = fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
        // Others who may write to the directory can put another file under the temporary name.
        if !found.is_ok_and(|found| (found.st_dev, found.st_ino) == (status.dev(), status.ino())) {
            return Err(Error::Gone { path: self.path.clone() });
        }
        Ok(Placed { file, path: self.path.clone() })
    }

    /// Whether there is a file to replace, which must be regular and have the same owner as the new one.
    fn is_taken(&self, new: &Temporary) -> Result<bool, Error> {
        let Some(owner) = self.owner()? else { return Ok(false) };
        let path = || self.path.clone();
        let own = new.owner().map_err(|source| Error::Create { path: path(), source })?;
        if owner == own { Ok(true) } else { Err(Error::Foreign { path: path(), owner }) }
    }

    /// The owner's user id of the regular file under this name, if there is one.
    fn owner(&self) -> Result<Option<u32>, Error> {
        let path = || self.path.clone();
        let found = match fstatat(&self.directory, self.name.as_os_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Err(Errno::ENOENT) => return Ok(None),
            Err(error) => return Err(Error::Create { path: path(), source: error.into() }),
            Ok(found) => found,
        };
        let kind = match SFlag::from_bits_truncate(found.st_mode & SFlag::S_IFMT.bits()) {
            SFlag::S_IFREG => return Ok(Some(found.st_uid)),
            SFlag::S_IFDIR => return Err(Error::Directory { path: path() }),
            SFlag::S_IFLNK => "a symbolic link",
            SFlag::S_IFIFO => "a pipe",
            SFlag::S_IFSOCK => "a socket",
            _ => "a device",
        };
        Err(Error::NotRegular { path: path(), kind })
    }
}

/// A path's directory and last name, if it has one.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let bytes = path.as_os_str().as_bytes();
    let (directory, name) = match bytes.iter().rposition(|byte| *byte == b'/') {
        Some(at) => bytes.split_at_checked(at + 1)?,
        None => (b".".as_slice(), bytes),
    };
    let is_name = !matches!(name, b"" | b"." | b"..");
    is_name.then(|| (Path::new(OsStr::from_bytes(directory)), OsStr::from_bytes(name)))
}

/// A file in its place that can be appended to.
#[derive(Debug)]
pub struct Placed {
    file: File,
    path: PathBuf,
}

impl Placed {
    /// Its size in bytes.
    ///
    /// # Errors
    /// [`Error::Gone`]: it no longer has a name, so nothing would read what is appended.
    pub fn size(&self) -> Result<u64, Error> {
        match self.file.metadata() {
            Ok(status) if status.nlink() == 0 => Err(Error::Gone { path: self.path.clone() }),
            Ok(status) => Ok(status.size()),
            Err(source) => Err(Error::Write { path: self.path.clone(), source }),
        }
    }

    /// Appends all of this, with one write if the system accepts it, or nothing.
    ///
    /// # Errors
    /// For example a full disk; or [`Error::Gone`].
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let size = self.size()?;
        self.file.write_all(bytes).map_err(|source| {
            // Best effort: if this fails too, the file ends with an incomplete piece, which readers of saved files
            // recognize.
            if let Err(error) = self.file.set_len(size) {
                tracing::warn!("{} ends with an incomplete piece: {error}", self.path.display());
            }
            Error::Write { path: self.path.clone(), source }
        })
    }
}
