//! Bounded reads of a file that another process may be writing.
//!
//! Read with pread instead of mapped: a mapped file that its owner truncates raises SIGBUS here, and the
//! tables needed are small compared to the file.

use std::fs::{File, Metadata};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use object::pod::{self, Pod};

use super::Error;

/// The largest file accepted, in bytes.
pub(super) const MAX_FILE: u64 = 4 << 30;

/// A regular file and its size when it was opened.
#[derive(Clone, Debug)]
pub(super) struct Source {
    file: Arc<File>,
    size: u64,
}

impl Source {
    /// Takes a regular, non-empty file of at most [`MAX_FILE`] bytes.
    pub(super) fn new(file: Arc<File>) -> Result<Self, Error> {
        let metadata = file.metadata().map_err(|source| Error::Metadata { source })?;
        if !metadata.is_file() {
            return Err(Error::NotRegular);
        }
        match metadata.len() {
            0 => Err(Error::Empty),
            size if size > MAX_FILE => Err(Error::FileTooLarge { size, limit: MAX_FILE }),
            size => Ok(Self { file, size }),
        }
    }

    /// The file's attributes as they are now.
    pub(super) fn metadata(&self) -> Result<Metadata, Error> {
        self.file.metadata().map_err(|source| Error::Metadata { source })
    }

    /// Reads `len` bytes at `offset`, rejecting more than `limit` and anything outside the file before
    /// allocating memory for it.
    pub(super) fn read(&self, what: &'static str, offset: u64, len: u64, limit: u64) -> Result<Block, Error> {
        if len > limit {
            return Err(Error::Limit { what, value: len, limit });
        }
        if offset.checked_add(len).is_none_or(|end| end > self.size) {
            return Err(Error::Truncated { what, offset, len, size: self.size });
        }
        let too_large = |_| Error::Limit { what, value: len, limit };
        let mut block = Block::zeroed(usize::try_from(len).map_err(too_large)?);
        self.file.read_exact_at(block.bytes_mut(), offset).map_err(|source| Error::Read {
            what,
            offset,
            len,
            source,
        })?;
        Ok(block)
    }
}

/// Bytes of the file, aligned for every ELF structure.
pub(super) struct Block {
    words: Vec<u64>,
    len: usize,
}

impl Block {
    fn zeroed(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(size_of::<u64>())], len }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        pod::bytes_of_slice_mut(&mut self.words).get_mut(..self.len).unwrap_or_default()
    }

    /// The bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        pod::bytes_of_slice(&self.words).get(..self.len).unwrap_or_default()
    }

    /// The bytes as entries; an incomplete last entry is left out.
    pub(super) fn entries<T: Pod>(&self) -> &[T] {
        let bytes = self.bytes();
        let count = bytes.len().checked_div(size_of::<T>()).unwrap_or_default();
        pod::slice_from_bytes(bytes, count).map(|(entries, _)| entries).unwrap_or_default()
    }
}

/// The bytes up to the first NUL; `None` if there is none.
pub(super) fn until_nul(bytes: &[u8]) -> Option<&[u8]> {
    bytes.iter().position(|byte| *byte == 0).and_then(|end| bytes.get(..end))
}
