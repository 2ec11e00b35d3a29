//! Why a saved session cannot be written or read.

use std::{io, path::PathBuf};

use crate::outfile;

/// Why a saved session cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be created or written. Its contents are complete.
    #[error(transparent)]
    File(#[from] outfile::Error),
    /// Another program has changed the file's size: appending would not continue it.
    #[error("{} was changed while it was being written: name a file that only memtrace writes", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// A value cannot be stored.
    #[error("the report cannot be stored")]
    Encode {
        /// The encoder's reason.
        source: rmp_serde::encode::Error,
    },
    /// A value could not be compressed.
    #[error("the report cannot be compressed")]
    Compress {
        /// The compressor's reason.
        source: io::Error,
    },
    /// A record is larger than readers accept.
    #[error(
        "record {record} is larger than the {limit} bytes that can be read: fewer stacks fit (--max-stacks)"
    )]
    TooLarge {
        /// Its number, from 0.
        record: u64,
        /// Bytes accepted.
        limit: usize,
    },
    /// The file has more records than readers accept.
    #[error(
        "a saved session has {limit} reports at most: begin another file, or report less often (--interval)"
    )]
    TooMany {
        /// Records accepted.
        limit: u64,
    },
    /// The file cannot be opened or read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A pipe, a device, a directory.
    #[error("{} is not a regular file: copy its contents to one", path.display())]
    NotRegular {
        /// The file.
        path: PathBuf,
    },
    /// The file does not begin as saved sessions do.
    #[error("{} is not a saved session: `--save FILE` makes one", path.display())]
    NotSaved {
        /// The file.
        path: PathBuf,
    },
    /// A newer memtrace has written the file.
    #[error(
        "{} was written by memtrace {version} in a newer {what} ({found}, this one reads up to {known}): open it with that version",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of memtrace that wrote it: printable ASCII.
        version: String,
        /// What is newer.
        what: &'static str,
        /// The file's number.
        found: u32,
        /// The largest number that is known.
        known: u32,
    },
    /// The beginning of the file is damaged.
    #[error("{} is damaged at its beginning: use another copy", path.display())]
    Header {
        /// The file.
        path: PathBuf,
    },
    /// A complete record contains something unexpected.
    #[error("record {record} of {} is not a report: {reason}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// Its number, from 0.
        record: u64,
        /// The decoder's reason, escaped: it may quote the file.
        reason: String,
    },
}
