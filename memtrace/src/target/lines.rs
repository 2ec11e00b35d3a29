//! Lines of a file in /proc, read with a bound: the target chooses what is in them.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _},
};

/// The lines of one file. The caller bounds their number.
#[derive(Debug)]
pub(super) struct Lines {
    reader: BufReader<File>,
    line: Vec<u8>,
    longest: u64,
}

impl Lines {
    /// Opens a file. A line longer than `longest` bytes is returned in pieces of that size.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub(super) fn open(path: &str, longest: u64) -> io::Result<Self> {
        Ok(Self { reader: BufReader::new(File::open(path)?), line: Vec::new(), longest })
    }

    /// The next line, with its end; `None` at the end of the file.
    ///
    /// # Errors
    /// The file cannot be read.
    pub(super) fn next(&mut self) -> io::Result<Option<&[u8]>> {
        self.line.clear();
        let length = self.reader.by_ref().take(self.longest).read_until(b'\n', &mut self.line)?;
        Ok((length > 0).then_some(self.line.as_slice()))
    }
}
