//! What can be wrong with a file.

use std::io;
use std::path::PathBuf;

/// Why a file, or a part of it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file's type and size cannot be read.
    #[error("cannot read the file's attributes")]
    Metadata {
        /// The system's reason.
        source: io::Error,
    },
    /// The file cannot be read, or became shorter while it was read.
    #[error("cannot read {len} bytes at offset {offset:#x} ({what})")]
    Read {
        /// The part that should have been read.
        what: &'static str,
        /// Where in the file, in bytes.
        offset: u64,
        /// How many bytes.
        len: u64,
        /// The system's reason.
        source: io::Error,
    },
    /// A directory, a device, a pipe.
    #[error("not a regular file")]
    NotRegular,
    /// The file has no bytes.
    #[error("the file is empty")]
    Empty,
    /// The file is larger than the limit.
    #[error("the file has {size} bytes, the limit is {limit}")]
    FileTooLarge {
        /// The file's size in bytes.
        size: u64,
        /// The largest size accepted.
        limit: u64,
    },
    /// The file does not begin with the ELF magic.
    #[error("not an ELF file")]
    NotElf,
    /// 32-bit or big-endian.
    #[error("not a 64-bit little-endian ELF file (class {class}, data {data})")]
    NotLittle64 {
        /// `EI_CLASS`: 1 is 32-bit.
        class: u8,
        /// `EI_DATA`: 2 is big-endian.
        data: u8,
    },
    /// Built for another processor.
    #[error("built for ELF machine {machine}, neither x86_64 (62) nor aarch64 (183)")]
    Machine {
        /// `e_machine`.
        machine: u16,
    },
    /// A part lies outside the file.
    #[error("truncated: {what} is at {offset:#x}, {len} bytes long, the file has {size}")]
    Truncated {
        /// The part.
        what: &'static str,
        /// Where it should be.
        offset: u64,
        /// How long it should be, in bytes.
        len: u64,
        /// The file's size in bytes.
        size: u64,
    },
    /// A part is larger than anything a linker makes for a real program.
    #[error("{what}: {value}, the limit is {limit}")]
    Limit {
        /// The part.
        what: &'static str,
        /// Its size, in bytes or entries.
        value: u64,
        /// The largest accepted.
        limit: u64,
    },
    /// A field contradicts the format.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// An address in no executable segment.
    #[error("address {address:#x} is in no executable segment")]
    NotCode {
        /// The ELF virtual address.
        address: u64,
    },
}
