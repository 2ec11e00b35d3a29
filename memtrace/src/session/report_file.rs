//! Reports that go to a file.

use std::{
    io::{self, Write},
    path::Path,
};

use crate::outfile::{Destination, Error, Placed};

/// Bytes after which appended output does not wait for the end of a report: a trace can have many events.
const PIECE: usize = 1 << 20;

/// Which reports a file keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// All reports: each is appended.
    All,
    /// The latest report: each replaces the file, so that a reader always sees a complete one.
    Latest,
}

/// A file that reports are written to. The first report creates it or replaces the existing one; each report ends with
/// a flush.
#[derive(Debug)]
pub struct ReportFile {
    destination: Destination,
    keep: Keep,
    report: Vec<u8>,
    placed: Option<Placed>,
}

impl ReportFile {
    /// Makes sure that the file can be created.
    ///
    /// # Errors
    /// No file can be created there, or the existing one must not be replaced.
    pub fn create(path: &Path, keep: Keep) -> Result<Self, Error> {
        Ok(Self { destination: Destination::new(path)?, keep, report: Vec::new(), placed: None })
    }

    fn put(&mut self) -> Result<(), Error> {
        match &mut self.placed {
            Some(file) => file.append(&self.report)?,
            None => {
                let file = self.destination.replace(&self.report)?;
                self.placed = Some(file).filter(|_| self.keep == Keep::All);
            }
        }
        self.report.clear();
        Ok(())
    }
}

impl Write for ReportFile {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.keep == Keep::All && self.report.len() >= PIECE {
            self.flush()?;
        }
        self.report.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.report.is_empty() {
            return Ok(());
        }
        self.put().map_err(io::Error::other)
    }
}
