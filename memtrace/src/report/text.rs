//! Text for people: what holds memory, most important first.

use std::fmt;
use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::escape::short;
use super::losses::{self, reason_words};
use super::{Reporter, escape, estimates, kernel};
use crate::model::units::{format_age, format_bytes, format_count, format_number};
use crate::model::{
    AllocationEvent, Event, Filter, Frame, LiveBlock, Mode, Snapshot, StackMethod, StackRow, TargetInfo,
    Uncertainty,
};

/// Process ids named in the header; of more, only their number is given.
const PIDS_SHOWN: usize = 8;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";

/// Stacks of mappings that the text shows; JSON has as many as of blocks.
const MAPPINGS_SHOWN: usize = 3;

/// The text format.
#[derive(Clone, Debug)]
pub struct Text {
    colour: bool,
    zone: TimeZone,
}

impl Text {
    /// Text with times of day in `zone`; with `colour`, amounts are bold and modules dim (ANSI escapes).
    #[must_use]
    pub fn new(colour: bool, zone: TimeZone) -> Self {
        Self { colour, zone }
    }

    fn paint<T>(&self, style: &'static str, text: T) -> Painted<T> {
        Painted { style: if self.colour { style } else { "" }, text }
    }

    fn snapshot(&self, out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
        self.header(out, snapshot)?;
        let (bytes, blocks) = estimates::amounts(snapshot.outstanding, snapshot.uncertainty, noun(snapshot));
        let samples = snapshot.uncertainty.map(samples).unwrap_or_default();
        let of_what = if snapshot.mode.attached.gaps > 0 { " of what was seen" } else { "" };
        writeln!(
            out,
            "Outstanding{of_what}: {} in {blocks}, {}{samples}",
            self.paint(BOLD, bytes),
            estimates::rate(snapshot.bytes_per_second, &snapshot.mode)
        )?;
        if let Some(overhead) = &snapshot.overhead {
            writeln!(out, "{}", estimates::cost(overhead))?;
        }
        if let Some(balance) = estimates::balance(&snapshot.mode) {
            writeln!(out, "{balance}")?;
        }
        if !snapshot.kernel.as_ref().is_some_and(|kernel| kernel.by_cache) {
            for (index, row) in snapshot.stacks.iter().enumerate() {
                writeln!(out)?;
                self.row(out, index + 1, row, snapshot)?;
            }
            self.remainder(out, snapshot)?;
        }
        self.mappings(out, snapshot)?;
        if let Some(report) = &snapshot.kernel {
            kernel::caches(out, report)?;
            kernel::left_out(out, report)?;
        }
        self.remarks(out, snapshot)?;
        writeln!(out)
    }

    fn header(&self, out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
        let time = snapshot.time.to_zoned(self.zone.clone());
        writeln!(
            out,
            "[{}] {}{}, traced for {}{}; {}",
            time.strftime("%H:%M:%S"),
            if snapshot.last { "last report: " } else { "" },
            match &snapshot.kernel {
                Some(report) => kernel::target(&snapshot.target, report),
                None => processes(&snapshot.target),
            },
            format_age(snapshot.elapsed),
            match snapshot.kernel {
                Some(_) => String::new(),
                None => format!(", {}", allocators(&snapshot.target)),
            },
            method(&snapshot.mode)
        )
    }

    fn row(&self, out: &mut dyn Write, rank: usize, row: &StackRow, snapshot: &Snapshot) -> io::Result<()> {
        let (bytes, blocks) = estimates::amounts(row.outstanding, row.uncertainty, noun(snapshot));
        write!(
            out,
            "#{rank}  {} in {blocks}{}",
            self.paint(BOLD, bytes),
            row.uncertainty.map(samples).unwrap_or_default()
        )?;
        if let Some(kernel) = &row.kernel {
            write!(out, "{}", kernel::of(kernel))?;
        }
        if let Some(share) = share(row.outstanding.bytes, snapshot.outstanding.bytes) {
            write!(out, ", {share} of the total")?;
        }
        write!(out, "{}", process(&snapshot.target, row.pid))?;
        write!(out, ", {}", estimates::rate(row.bytes_per_second, &snapshot.mode))?;
        if let Some(kernel) = &row.kernel {
            write!(out, "{}", kernel::more(row, kernel, snapshot))?;
        }
        if let Some(oldest) = row.oldest {
            let words = if oldest.exact { "oldest" } else { "none older than" };
            write!(out, ", {words} {}", format_age(oldest.age))?;
        }
        // Of how many old blocks some were freed nobody knows; nor of those that were watched for long enough.
        if snapshot.mode.filter.older.is_none() && !snapshot.mode.attached.open {
            write!(
                out,
                ", freed {}{} of {}",
                if row.uncertainty.is_some() { "about " } else { "" },
                format_number(row.freed.blocks),
                format_count(row.allocated.blocks, noun(snapshot))
            )?;
        }
        writeln!(out, "  {}", self.paint(DIM, format_args!("stack {:016x}", row.id)))?;
        match row.kernel {
            Some(_) => kernel::frames(out, &row.frames)?,
            None => self.frames(out, &row.frames)?,
        }
        match (row.incomplete.map(reason_words), row.frames.is_empty()) {
            (Some(reason), true) => writeln!(out, "    (no frames: {reason})")?,
            (Some(reason), false) => writeln!(out, "    (outer callers are missing: {reason})")?,
            (None, true) => writeln!(out, "    (the frames of this stack were not received)")?,
            (None, false) => {}
        }
        row.blocks.iter().try_for_each(|block| live_block(out, block))
    }

    fn frames(&self, out: &mut dyn Write, frames: &[Frame]) -> io::Result<()> {
        let mut rest = frames;
        while let Some((frame, after)) = rest.split_first() {
            let folded = rest.iter().take_while(|frame| is_rust_runtime(frame)).count();
            if folded >= FOLDED {
                writeln!(
                    out,
                    "    {}",
                    self.paint(DIM, format_args!("… {folded} frames of Rust's runtime"))
                )?;
                rest = rest.get(folded..).unwrap_or_default();
                continue;
            }
            rest = after;
            let place = format_args!("{}+{:#x}", Module(&frame.module), frame.module_offset);
            let Some(function) = &frame.function else {
                writeln!(out, "    {place}")?;
                continue;
            };
            write!(out, "    {}", short(function))?;
            if frame.inlined {
                write!(out, " [inlined]")?;
            }
            if let Some(file) = &frame.file {
                write!(out, "  {}", short(file))?;
                if let Some(line) = frame.line {
                    write!(out, ":{line}")?;
                }
            }
            writeln!(out, "  {}", self.paint(DIM, format_args!("({place})")))?;
        }
        Ok(())
    }

    /// What the rows leave out, or that there is nothing to show.
    fn remainder(&self, out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
        let hidden = snapshot.stacks_found.saturating_sub(snapshot.stacks.len());
        if hidden > 0 {
            let shown =
                snapshot.stacks.iter().fold(0, |sum: u64, row| sum.saturating_add(row.outstanding.bytes));
            writeln!(
                out,
                "\n… and {} {} {} (--top 0 shows all)",
                format_number(u64::try_from(hidden).unwrap_or(u64::MAX)),
                if hidden == 1 { "more stack holds" } else { "more stacks hold" },
                self.paint(BOLD, format_bytes(snapshot.outstanding.bytes.saturating_sub(shown)))
            )
        } else if !snapshot.stacks.is_empty() {
            Ok(())
        } else if snapshot.mode.filter != Filter::default() {
            writeln!(out, "No outstanding block passes the filter; without it there may be some.")
        } else if snapshot.outstanding.blocks == 0 && !snapshot.mode.exact {
            let seen = if snapshot.mode.attached.open { "seen for long enough" } else { "drawn or seen" };
            writeln!(out, "Nothing that was {seen} is outstanding; of the rest nothing is known.")
        } else if snapshot.outstanding.blocks == 0 {
            writeln!(
                out,
                "Nothing allocated since tracing began is outstanding. (What was allocated before is unknown.)"
            )
        } else {
            writeln!(out, "No stack with outstanding allocations passes the filters.")
        }
    }

    /// Memory that the target mapped itself. Large areas that live as long as the process are usual: a few stacks will do.
    fn mappings(&self, out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
        let Some(mapped) = snapshot.mapped.filter(|mapped| mapped.blocks > 0) else { return Ok(()) };
        writeln!(
            out,
            "\nMapped by the program itself (mmap, not counted above): {} in {}",
            self.paint(BOLD, format_bytes(mapped.bytes)),
            format_count(mapped.blocks, "range"),
        )?;
        for row in snapshot.mappings.iter().take(MAPPINGS_SHOWN) {
            writeln!(
                out,
                "  {} in {}{}, oldest {}  {}",
                self.paint(BOLD, format_bytes(row.mapped.bytes)),
                format_count(row.mapped.blocks, "range"),
                process(&snapshot.target, row.pid),
                format_age(row.oldest),
                self.paint(DIM, format_args!("stack {:016x}", row.id))
            )?;
            self.frames(out, &row.frames)?;
        }
        Ok(())
    }

    fn remarks(&self, out: &mut dyn Write, snapshot: &Snapshot) -> io::Result<()> {
        let losses = losses::of(snapshot);
        let gaps = estimates::gaps(snapshot);
        if !losses.is_empty() || !snapshot.notes.is_empty() || gaps.is_some() {
            writeln!(out)?;
        }
        for sentence in losses {
            writeln!(out, "{} {sentence}", self.paint(BOLD, "Lost:"))?;
        }
        gaps.iter().chain(&snapshot.notes).try_for_each(|note| writeln!(out, "Note: {}", escape(note)))
    }

    fn allocation(&self, out: &mut dyn Write, event: &AllocationEvent) -> io::Result<()> {
        writeln!(
            out,
            "{:>12.6}  {}/{}  {}  {:#x}  size {}  {}",
            event.elapsed.as_secs_f64(),
            event.pid,
            event.tid,
            if event.freed { "free " } else { "alloc" },
            event.address,
            self.paint(BOLD, event.size),
            self.paint(DIM, format_args!("stack {:016x}", event.stack))
        )?;
        self.frames(out, &event.frames)
    }
}

impl Reporter for Text {
    fn write(&mut self, out: &mut dyn Write, event: &Event) -> io::Result<()> {
        match event {
            Event::Snapshot(snapshot) => self.snapshot(out, snapshot),
            Event::Allocation(event) => self.allocation(out, event),
        }
    }
}

/// Text with a style around it; with no style, only the text.
struct Painted<T> {
    style: &'static str,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = if self.style.is_empty() { "" } else { "\x1b[0m" };
        write!(f, "{}{}{reset}", self.style, self.text)
    }
}

/// A module's path, harmless and short.
struct Module<'a>(&'a str);

impl fmt::Display for Module<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_empty() { "[unknown]" } else { "" })?;
        f.write_str(&short(self.0))
    }
}

fn live_block(out: &mut dyn Write, block: &LiveBlock) -> io::Result<()> {
    writeln!(out, "    addr = {:#x}  size = {}  age {}", block.address, block.size, format_age(block.age))
}

/// What blocks are called.
fn noun(snapshot: &Snapshot) -> &'static str {
    if snapshot.kernel.is_some() { "object" } else { "block" }
}

/// Whose a row is, where that is not plain.
fn process(target: &TargetInfo, pid: u32) -> String {
    if target.pids.len() > 1 { format!(", process {pid}") } else { String::new() }
}

fn processes(target: &TargetInfo) -> String {
    let shown = target.pids.iter().take(PIDS_SHOWN).map(u32::to_string).collect::<Vec<_>>().join(", ");
    let noun = if target.pids.len() == 1 { "pid" } else { "pids" };
    let more = match target.pids.len().saturating_sub(PIDS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{} ({noun} {shown}{more})", escape(&target.comm))
}

fn allocators(target: &TargetInfo) -> String {
    match target.allocators.len() {
        0 => "no allocator found".to_owned(),
        1 => format!("allocator {}", escape(&target.allocators.join(", "))),
        _ => format!("allocators {}", escape(&target.allocators.join(", "))),
    }
}

fn method(mode: &Mode) -> String {
    let count = estimates::counted(mode, sizes(&mode.filter));
    let stacks = match mode.stacks {
        StackMethod::Cfi => "stacks from call frame information",
        StackMethod::FramePointer => {
            "stacks from frame pointers (callers may be missing where code was built without them)"
        }
        StackMethod::Kernel => "stacks from the kernel's unwinder",
    };
    let older = mode.filter.older.filter(|age| !age.is_zero());
    let older =
        older.map(|age| format!(", shown are blocks older than {}", format_age(age))).unwrap_or_default();
    format!("{count}{older}, {stacks}")
}

/// What an estimate rests on.
fn samples(doubt: Uncertainty) -> String {
    format!(", from {}", format_count(doubt.samples, "sample"))
}

/// A size filter in words.
fn sizes(filter: &Filter) -> Option<String> {
    match (filter.min_size.map(format_bytes), filter.max_size.map(format_bytes)) {
        (None, None) => None,
        (Some(min), None) => Some(format!("of {min} and more")),
        (None, Some(max)) => Some(format!("of up to {max}")),
        (Some(min), Some(max)) => Some(format!("of {min} to {max}")),
    }
}

/// Frames of Rust's runtime in a row that are shown as one line.
const FOLDED: usize = 3;

/// Whether a frame only starts a Rust program or thread, or catches its panics: a dozen of them stand between `main`
/// and the program's own.
fn is_rust_runtime(frame: &Frame) -> bool {
    const PREFIXES: [&str; 9] = [
        "std::rt::",
        "std::sys::backtrace::__rust_begin_short_backtrace",
        "std::sys::thread::",
        "std::thread::",
        "std::panic::",
        "std::panicking::",
        "<core::panic::unwind_safe::",
        "core::ops::function::FnOnce::call_once",
        "<&dyn core::ops::function::Fn",
    ];
    frame.function.as_ref().is_some_and(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}

/// The part of `total` in whole percent: never 0 % of something, never 100 % of a part.
pub(super) fn share(bytes: u64, total: u64) -> Option<String> {
    let total = u128::from(total);
    let percent = (u128::from(bytes).checked_mul(100)? + total / 2).checked_div(total)?;
    Some(match percent {
        0 if bytes > 0 => "under 1 %".to_owned(),
        _ => format!("{} %", percent.min(if u128::from(bytes) < total { 99 } else { 100 })),
    })
}
