//! Floor 3: what the user or a script gets to read. A [`Reporter`] per format; each only writes to what it is
//! given.
//!
//! Invariant: text that comes from the target passes through [`escape()`] (JSON: the same characters as `\u`
//! escapes), so a hostile symbol or path cannot steer the reader's terminal.

mod escape;
mod estimates;
mod json;
mod kernel;
mod losses;
mod memleak;
mod text;

#[cfg(test)]
mod tests;

use std::io;

use crate::model::Event;

pub use escape::escape;
pub use json::Json;
pub use memleak::{Memleak, MemleakOptions};
pub use text::Text;

/// Writes events in one format.
pub trait Reporter {
    /// Writes `event` to `out`, complete, in many small writes and without a flush: give it a buffered writer
    /// and flush that after each report.
    ///
    /// # Errors
    /// What `out` returns, a closed pipe for example.
    fn write(&mut self, out: &mut dyn io::Write, event: &Event) -> io::Result<()>;
}
