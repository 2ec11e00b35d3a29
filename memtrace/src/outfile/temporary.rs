//! A temporary file that is not in place yet.

use std::{
    ffi::OsStr,
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
};

use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, AtFlags, OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, linkat, unlinkat},
};

const FLAGS: OFlag = OFlag::O_RDWR.union(OFlag::O_APPEND).union(OFlag::O_CLOEXEC);
const MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

/// A file without a name, or with one that is removed with this value.
#[derive(Debug)]
pub(super) struct Temporary {
    file: File,
    name: Option<Name>,
}

impl Temporary {
    /// Creates a file in a directory. If the file system supports that, it has no name, so that nothing of it stays if this
    /// process is killed.
    pub(super) fn create(directory: &OwnedFd) -> nix::Result<Self> {
        match openat(directory, c".", FLAGS | OFlag::O_TMPFILE, MODE) {
            Ok(file) => Ok(Self { file: file.into(), name: None }),
            // Errors of file systems and kernels without this feature.
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => Self::named(directory),
            Err(errno) => Err(errno),
        }
    }

    /// Creates a file under an unpredictable name.
    pub(super) fn named(directory: &OwnedFd) -> nix::Result<Self> {
        let name = Name::new(directory)?;
        let flags = FLAGS | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW;
        let file = openat(directory, name.text.as_str(), flags, MODE)?;
        Ok(Self { file: file.into(), name: Some(name.used()) })
    }

    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// The owner's user id. It need not be this process's, on NFS for example.
    pub(super) fn owner(&self) -> io::Result<u32> {
        Ok(self.file.metadata()?.uid())
    }

    /// Gives the file its name in `directory`: a new one, or with `replace` that of an existing file, which it replaces.
    ///
    /// # Errors
    /// `EEXIST`: the name has been taken meanwhile.
    pub(super) fn put(&mut self, directory: &OwnedFd, name: &OsStr, replace: bool) -> nix::Result<()> {
        let temporary = match self.name.take() {
            Some(temporary) => temporary,
            None if !replace => return self.link(directory, name),
            // No system call replaces a file by a nameless one. The file is complete by now, in case this process is
            // killed before it has its own name.
            None => {
                let temporary = Name::new(directory)?;
                self.link(directory, OsStr::new(&temporary.text))?;
                temporary.used()
            }
        };
        renameat(directory, temporary.text.as_str(), directory, name)?;
        temporary.unused();
        Ok(())
    }

    fn link(&self, directory: &OwnedFd, name: &OsStr) -> nix::Result<()> {
        // Linking by descriptor alone needs root.
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        linkat(AT_FDCWD, own.as_str(), directory, name, AtFlags::AT_SYMLINK_FOLLOW)
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }
}

/// A random name in a directory; removed with the value while it is used.
#[derive(Debug)]
struct Name {
    directory: OwnedFd,
    text: String,
    used: bool,
}

impl Name {
    fn new(directory: &OwnedFd) -> nix::Result<Self> {
        let directory = directory
            .try_clone()
            .map_err(|error| error.raw_os_error().map_or(Errno::EMFILE, Errno::from_raw))?;
        let mut random = [0; 16];
        // SAFETY: the kernel writes as many bytes as there are.
        let filled = unsafe { libc::getrandom(random.as_mut_ptr().cast(), random.len(), 0) };
        Errno::result(filled)?;
        let text = format!(".memtrace-{:032x}", u128::from_ne_bytes(random));
        Ok(Self { directory, text, used: false })
    }

    fn used(mut self) -> Self {
        self.used = true;
        self
    }

    fn unused(mut self) {
        self.used = false;
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        if self.used
            && let Err(error) = unlinkat(&self.directory, self.text.as_str(), UnlinkatFlags::NoRemoveDir)
        {
            tracing::warn!("a temporary file, {}, is left behind: {error}", self.text);
        }
    }
}
