//! Why a file cannot be created.

use std::{io, path::PathBuf};

/// Why a file cannot be created or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The path leads to a directory.
    #[error("\"{}\" is a directory: name a file in it", path.display())]
    Directory {
        /// The path as it was given.
        path: PathBuf,
    },
    /// Something under this name must not be replaced.
    #[error("{} is {kind}, and only a regular file is replaced: name another file", path.display())]
    NotRegular {
        /// The path as it was given.
        path: PathBuf,
        /// What it is.
        kind: &'static str,
    },
    /// Another user's file has this name.
    #[error("{} belongs to another user ({owner}) and is not replaced: remove it, or name another file", path.display())]
    Foreign {
        /// The path as it was given.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// A part of the directory's path is another user's link.
    #[error("{} is a symbolic link of another user ({owner}) and is not followed: name the directory itself", path.display())]
    ForeignLink {
        /// The directory's path up to the link.
        path: PathBuf,
        /// The owner's user id.
        owner: u32,
    },
    /// The directory cannot be opened.
    #[error("cannot open {}: name a file in an existing directory", path.display())]
    Open {
        /// The directory's path up to the part that cannot be opened.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// No file can be created in the directory.
    #[error("cannot create {}: name a file in a directory that you may write to", path.display())]
    Create {
        /// The path as it was given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be written.
    #[error("cannot write {} (its old contents are kept)", path.display())]
    Write {
        /// The path as it was given.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file was removed or replaced by another process.
    #[error("{} was removed or replaced while it was being written: name a file that only memtrace writes", path.display())]
    Gone {
        /// The path as it was given.
        path: PathBuf,
    },
}
