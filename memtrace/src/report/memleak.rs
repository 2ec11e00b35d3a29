//! The text of bcc's memleak, which scripts read.
//!
//! Invariant: the last line of a report that contains "byte" is that of the last stack, which is the first in
//! the requested order, unless a function or module has the word in its name. So what bcc does not print (losses,
//! notes) comes before the report's header.

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::escape::short;
use super::{Reporter, escape};
use super::{losses, remarks};
use crate::profile::{Allocation, Dictionary, Frame, LiveBlock, Row, View};

/// The options of bcc's memleak that affect its text.
#[derive(Clone, Debug)]
pub struct MemleakOptions {
    /// `-T`: bcc's header has the number requested, not the number found.
    pub top: usize,
    /// `-a`: list the blocks.
    pub show_allocs: bool,
    /// `--combined-only`: bcc then lists no blocks, and an empty report has an empty line.
    pub combined_only: bool,
    /// The zone of the header's time of day.
    pub zone: TimeZone,
}

/// The format of `memtrace memleak`.
#[derive(Clone, Debug)]
pub struct Memleak {
    options: MemleakOptions,
}

impl Memleak {
    /// Text as bcc's memleak prints it with these options.
    #[must_use]
    pub fn new(options: MemleakOptions) -> Self {
        Self { options }
    }
}

impl Reporter for Memleak {
    fn report(&mut self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        for sentence in losses::of(profile) {
            writeln!(out, "Lost: {sentence}")?;
        }
        for remark in &profile.remarks {
            writeln!(out, "Note: {}", escape(&remarks::sentence(view.dictionary(), remark)))?;
        }
        let time = profile.time.to_zoned(self.options.zone.clone());
        writeln!(
            out,
            "[{}] Top {} stacks with outstanding allocations:",
            time.strftime("%H:%M:%S"),
            self.options.top
        )?;
        if self.options.combined_only && view.rows().next().is_none() {
            writeln!(out)?;
        }
        if self.options.show_allocs && !self.options.combined_only {
            blocks(out, view)?;
        }
        view.rows().rev().try_for_each(|row| stack(out, view, row))
    }

    /// The messages are bcc's; of its tuple (task, pid, CPU, flags, seconds, message), what memtrace knows.
    fn allocation(&mut self, out: &mut dyn Write, _: &Dictionary, event: &Allocation) -> io::Result<()> {
        let seconds = event.elapsed.as_secs_f64();
        let Allocation { tid, address, size, .. } = event;
        if event.freed {
            writeln!(out, "({tid}, {seconds:.6}, 'free entered, address = {address:x}, size = {size}')")
        } else {
            writeln!(out, "({tid}, {seconds:.6}, 'alloc exited, size = {size}, result = {address:x}')")
        }
    }
}

/// The blocks of all rows together, smallest first, as in bcc.
fn blocks(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let mut blocks: Vec<&LiveBlock> = view.rows().flat_map(|row| &row.blocks).collect();
    blocks.sort_by_key(|block| block.size);
    blocks.iter().try_for_each(|block| writeln!(out, "\taddr = {:x} size = {}", block.address, block.size))
}

fn stack(out: &mut dyn Write, view: &View<'_>, row: &Row) -> io::Result<()> {
    let held = row.outstanding;
    writeln!(out, "\t{} bytes in {} allocations from stack", held.bytes, held.blocks)?;
    let frames = view.frames(row.stack);
    if frames.is_empty() {
        writeln!(out, "\t\tstack information lost")?;
    }
    frames.iter().try_for_each(|frame| writeln!(out, "\t\t{}", symbol(frame)))
}

/// `main+0x6d [allocs]`; bcc knows no inlined functions: they have no offset of their own.
fn symbol(frame: &Frame<'_>) -> String {
    let function = match frame.function {
        None => "[unknown]".to_owned(),
        Some(name) if frame.inlined => short(name),
        Some(name) => format!("{}+{:#x}", short(name), frame.function_offset),
    };
    let base = frame.file_name();
    match base {
        "" => function,
        _ if base.starts_with('[') => format!("{function} {}", short(base)),
        _ => format!("{function} [{}]", short(base)),
    }
}
