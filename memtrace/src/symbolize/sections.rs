//! Sections of a mapped file, inflated if they are compressed.
//!
//! The file stays mapped for as long as the process lives, and inflated sections stay in memory: this runs in a child
//! that is replaced when it uses too much.

use std::{fs::File, io, num::NonZeroUsize};

use flate2::{Decompress, FlushDecompress, Status};
use nix::sys::mman::{MapFlags, ProtFlags, mmap};
use object::{CompressionFormat, LittleEndian, Object as _, ObjectSection as _, read::elf::ElfFile64};

/// An ELF file of the kind that `crate::elf` accepts.
pub(super) type Elf = ElfFile64<'static, LittleEndian>;

/// What one section and all sections of a child may inflate to.
const EACH: u64 = 512 << 20;
const TOGETHER: u64 = 1 << 30;

/// Debug information compresses to a third, tables of zeros to less: a section that claims to be more than this many times
/// its compressed size is not debug information, unless it is small anyway.
const RATIO: u64 = 20;
const SMALL: u64 = 16 << 20;

/// Why a section is not read.
#[derive(Debug, thiserror::Error)]
pub(super) enum Problem {
    /// It is damaged.
    #[error("{0}")]
    Damaged(&'static str),
    /// The error of `object`.
    #[error(transparent)]
    Elf(#[from] object::Error),
    /// Its compression is not supported.
    #[error("{name} is compressed in a way that is not supported")]
    Compression {
        /// The section.
        name: &'static str,
    },
    /// It claims to inflate to too much.
    #[error("{name} would inflate to {size} bytes, from {compressed}")]
    TooLarge {
        /// The section.
        name: &'static str,
        /// The size in its header.
        size: u64,
        /// Its bytes in the file.
        compressed: u64,
    },
}

/// Maps the first `size` bytes of a file permanently.
///
/// # Errors
/// The kernel refused.
pub(super) fn map(file: &File, size: u64) -> io::Result<&'static [u8]> {
    let length = usize::try_from(size).ok().and_then(NonZeroUsize::new).ok_or(io::ErrorKind::InvalidInput)?;
    // SAFETY: a new read-only mapping. The file may change under it, and so may the bytes: anyone who can write to it
    // controls what is read, and thereby at most this process, which has no privileges. If the file is truncated,
    // the process ends.
    let bytes = unsafe {
        let start = mmap(None, length, ProtFlags::PROT_READ, MapFlags::MAP_PRIVATE, file, 0)?;
        std::slice::from_raw_parts(start.as_ptr().cast::<u8>(), length.get())
    };
    Ok(bytes)
}

/// Reads sections, within a limit for all of them.
#[derive(Default)]
pub(super) struct Sections {
    inflated: u64,
}

impl Sections {
    /// A section's bytes; empty if the file has none of that name.
    ///
    /// # Errors
    /// It is damaged, or compressed and too large.
    pub(super) fn bytes(
        &mut self,
        elf: &Elf,
        data: &'static [u8],
        name: &'static str,
    ) -> Result<&'static [u8], Problem> {
        let Some(section) = elf.section_by_name(name) else { return Ok(&[]) };
        let range = section.compressed_file_range()?;
        let bytes = usize::try_from(range.offset)
            .ok()
            .zip(usize::try_from(range.compressed_size).ok())
            .and_then(|(offset, size)| data.get(offset..offset.checked_add(size)?))
            .ok_or(Problem::Damaged("a section lies outside the file"))?;
        match range.format {
            CompressionFormat::None => Ok(bytes),
            CompressionFormat::Zlib => self.inflate(name, bytes, range.uncompressed_size),
            _ => Err(Problem::Compression { name }),
        }
    }

    fn inflate(&mut self, name: &'static str, bytes: &[u8], size: u64) -> Result<&'static [u8], Problem> {
        let compressed = bytes.len() as u64;
        let most =
            EACH.min(TOGETHER.saturating_sub(self.inflated)).min(SMALL.max(compressed.saturating_mul(RATIO)));
        let too_large = Problem::TooLarge { name, size, compressed };
        let Some(length) = usize::try_from(size).ok().filter(|_| size <= most) else { return Err(too_large) };
        let mut inflated = vec![0; length];
        let mut zlib = Decompress::new(true);
        match zlib.decompress(bytes, &mut inflated, FlushDecompress::Finish) {
            Ok(Status::StreamEnd) if zlib.total_out() == size => {}
            _ => return Err(Problem::Damaged("a compressed section is damaged")),
        }
        self.inflated += size;
        Ok(inflated.leak())
    }
}
