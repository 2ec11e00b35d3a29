//! Folded stacks: a line for each stack, its functions from the outermost on, separated by `;`, then a space and a number.
//!
//! flamegraph.pl and stackcollapse defined the format: <https://github.com/brendangregg/FlameGraph>. It has no escapes, so
//! `;` in names becomes `:`, as stackcollapse-perf.pl does it.

use std::io;

use super::stacks::{Unit, path};
use super::{Reporter, escape};
use crate::profile::View;

/// The format.
#[derive(Clone, Copy, Debug, Default)]
pub struct Folded {
    unit: Unit,
}

impl Folded {
    /// Folded stacks with these numbers.
    #[must_use]
    pub fn new(unit: Unit) -> Self {
        Self { unit }
    }
}

impl Reporter for Folded {
    fn report(&mut self, out: &mut dyn io::Write, view: &View<'_>) -> io::Result<()> {
        let rows = view.rows().map(|row| (row, self.unit.of(row.outstanding)));
        let mut is_empty = true;
        for (row, number) in rows.filter(|(_, number)| *number > 0) {
            let names: Vec<String> =
                path(view, row).iter().map(|name| escape(name).replace(';', ":")).collect();
            writeln!(out, "{} {number}", names.join(";"))?;
            is_empty = false;
        }
        if is_empty {
            // An empty report would not replace the one before in a file.
            writeln!(out, "[nothing] 0")?;
        }
        Ok(())
    }
}
