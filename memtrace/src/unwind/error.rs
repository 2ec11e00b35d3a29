//! Why a file has no table.

use crate::elf;

/// Why a file has no table.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read, or its headers say something impossible.
    #[error("cannot read unwind information")]
    Image(#[from] elf::Error),
    /// The file has no executable segment.
    #[error("no executable segment")]
    NoCode,
    /// Addresses in rows have 32 bits.
    #[error("code spans {span:#x} bytes, the limit is 4 GiB")]
    Span {
        /// From the first executable byte to the last.
        span: u64,
    },
    /// Neither `.eh_frame` nor `.debug_frame` describes any of the code.
    #[error("no call frame information")]
    NoFrames,
    /// The call frame information contradicts its format.
    #[error("malformed call frame information")]
    Frames(#[from] gimli::Error),
    /// There is more than any real program has.
    #[error("{what}: {value}, the limit is {limit}")]
    Limit {
        /// The part that is too large.
        what: &'static str,
        /// Its size, in bytes or entries.
        value: u64,
        /// The most accepted.
        limit: u64,
    },
    /// The time was over before the table was complete.
    #[error("building the unwind table takes too long")]
    TooSlow,
    /// The file took more time than that of any real program.
    #[error("building the unwind table takes over {} s", limit.as_secs())]
    Expensive {
        /// The most a file may take.
        limit: std::time::Duration,
    },
    /// Building the table panicked: a defect of this program or of a library it uses.
    #[error("building the unwind table failed unexpectedly")]
    Panic,
}
