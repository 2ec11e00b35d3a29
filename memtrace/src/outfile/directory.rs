//! Finds a directory without following other users' links.

use std::{
    collections::VecDeque,
    ffi::OsString,
    io,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat, readlinkat},
    sys::stat::{FileStat, Mode, fstat},
    unistd::geteuid,
};

use super::Error;

/// The most links followed, as in the kernel.
const LINKS: usize = 40;

/// Finds something without blocking or following a link.
const FIND: OFlag = OFlag::O_PATH.union(OFlag::O_NOFOLLOW).union(OFlag::O_CLOEXEC);

/// Opens a directory, to create files in it. A link on the way is followed if it belongs to this user, to root, or to the
/// owner of the directory it is in: the kernel's rule for sticky directories (`protected_symlinks`), here for all of them.
pub(super) fn open(path: &Path) -> Result<OwnedFd, Error> {
    // The path so far, without the links.
    let mut seen = root(path);
    let mut rest = parts(path);
    let mut at = start(path).map_err(|errno| failed(path, errno))?;
    let mut links = 0;
    while let Some(part) = rest.pop_front() {
        seen.push(&part);
        let next = match openat(&at, part.as_os_str(), FIND | OFlag::O_DIRECTORY, Mode::empty()) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => openat(&at, part.as_os_str(), FIND, Mode::empty()),
            next => next,
        };
        let next = next.map_err(|errno| failed(&seen, errno))?;
        let status = fstat(&next).map_err(|errno| failed(&seen, errno))?;
        if status.st_mode & libc::S_IFMT != libc::S_IFLNK {
            at = next;
            continue;
        }
        let directory = fstat(&at).map_err(|errno| failed(&seen, errno))?;
        if !is_followed(&status, &directory) {
            return Err(Error::ForeignLink { path: seen, owner: status.st_uid });
        }
        links += 1;
        let target = if links > LINKS { Err(Errno::ELOOP) } else { readlinkat(&next, c"") };
        let target = PathBuf::from(target.map_err(|errno| failed(&seen, errno))?);
        seen.pop();
        if target.is_absolute() {
            seen = root(&target);
            at = start(&target).map_err(|errno| failed(&seen, errno))?;
        }
        let mut further = parts(&target);
        further.append(&mut rest);
        rest = further;
    }
    openat(&at, c".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())
        .or_else(|_| openat(&at, c".", FIND | OFlag::O_DIRECTORY, Mode::empty()))
        .map_err(|errno| failed(path, errno))
}

fn is_followed(link: &FileStat, directory: &FileStat) -> bool {
    [0, geteuid().as_raw(), directory.st_uid].contains(&link.st_uid)
}

fn start(path: &Path) -> nix::Result<OwnedFd> {
    let start = if path.is_absolute() { c"/" } else { c"." };
    openat(AT_FDCWD, start, FIND | OFlag::O_DIRECTORY, Mode::empty())
}

fn root(path: &Path) -> PathBuf {
    if path.is_absolute() { PathBuf::from("/") } else { PathBuf::new() }
}

/// The names of a path, and `..`.
fn parts(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_owned())
        .collect()
}

fn failed(path: &Path, errno: Errno) -> Error {
    Error::Open { path: path.into(), source: io::Error::from(errno) }
}
