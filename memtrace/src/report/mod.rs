//! Floor 3: what the user or a script reads. A [`Reporter`] per format; each only writes to the writer it is
//! given.
//!
//! Invariant: text that comes from the target passes through [`escape()`] (JSON: the same characters as `\u`
//! escapes), so a hostile symbol or path cannot control the reader's terminal.

mod balance;
mod blame;
mod comparison;
mod endings;
mod escape;
mod estimates;
mod firefox;
mod flame;
mod folded;
mod following;
mod header;
mod heap;
mod html;
mod json;
mod kernel;
mod leaks;
mod losses;
mod mappings;
mod memleak;
mod names;
mod openmetrics;
mod plan;
mod pprof;
mod remarks;
mod runtimes;
pub mod screen;
mod seen;
mod stacks;
mod suppressions;
mod svg;
mod text;
mod triage;
mod unseen;
mod verdicts;

#[cfg(test)]
mod tests;

use std::io;

use crate::profile::{Allocation, Dictionary, View};

pub use comparison::Comparison;
pub use escape::escape;
pub use firefox::Firefox;
pub use folded::Folded;
pub use following::{left_behind, listed};
pub use html::Html;
pub use json::Json;
pub use memleak::{Memleak, MemleakOptions};
pub use openmetrics::OpenMetrics;
pub use plan::plan;
pub use pprof::Pprof;
pub use seen::Witness;
pub use stacks::Unit;
pub use suppressions::{suppression, suppressions_used};
pub use svg::Svg;
pub use text::{Style, Text};
pub use triage::TriageView;

/// Writes reports and lines of a trace in one format.
pub trait Reporter {
    /// Writes a report to `out`, complete, in many small writes and without a flush: give it a buffered writer
    /// and flush that after each report.
    ///
    /// # Errors
    /// What `out` returns, a closed pipe for example.
    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()>;

    /// Whether it shows what stacks and processes held over the session.
    fn has_curves(&self) -> bool {
        false
    }

    /// Writes an allocation or a free (`--trace`), as [`Reporter::report`] does.
    ///
    /// # Errors
    /// As there. Formats that have no such lines, as is the default, return [`io::ErrorKind::Unsupported`].
    fn allocation(
        &mut self,
        _out: &mut dyn io::Write,
        _dictionary: &Dictionary,
        _event: &Allocation,
    ) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
