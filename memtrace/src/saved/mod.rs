//! The container of saved sessions: a file with a record for each report, independent of their contents.
//!
//! ```text
//! header   magic (8 bytes), format (u32), schema (u32), length of the version (u8), version of memtrace, CRC of all that (u32)
//! record   length of the contents (u32), CRC of the length and the contents (u32), contents
//! ```
//!
//! Numbers are little-endian; a CRC is zlib's CRC-32. Contents are MessagePack, compressed by deflate without a header.
//! Structs are arrays without names: fields can be added at the end with `#[serde(default)]`, and none may be left out
//! (`skip_serializing_if`).
//!
//! A writer only appends, with one write per record; a truncated record is recognized by its length and its CRC. A
//! reader trusts nothing, since root may open a stranger's file: every length is bounded, and memory is allocated for
//! actual data, not for announced lengths.

mod error;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use reader::{Reader, Tail};
pub use writer::Writer;

/// The first bytes: not text, and damaged by any conversion of text.
const MAGIC: [u8; 8] = *b"\x8bmtrc\r\n\x1a";

/// The version of the container.
const FORMAT: u32 = 1;

/// The most bytes of a version's text.
const MAX_VERSION: usize = 64;

/// Bytes of length and CRC in front of a record's contents.
const RECORD_HEAD: usize = 8;

/// The most bytes of a record's compressed contents.
const MAX_PACKED: usize = 64 << 20;

/// The most bytes of a record's contents: a few bytes of a deflate stream can inflate to thousands. Less in tests,
/// which are not optimized.
const MAX_CONTENTS: usize = if cfg!(test) { 1 << 20 } else { 128 << 20 };

/// The most records of a file: a report every 100 ms for 19 days.
const MAX_RECORDS: u64 = 1 << 24;

/// A record's CRC, which also covers its length.
fn checksum(length: u32, packed: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(packed);
    hasher.finalize()
}
