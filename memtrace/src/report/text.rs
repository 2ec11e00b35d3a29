//! Text for people: what holds memory, most important first.

use std::fmt;
use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::escape::short;
use super::header::{allocators, method, older, processes, sizes};
use super::losses::{self, reason_words};
use super::{Reporter, escape, estimates, kernel, leaks, remarks};
use crate::profile::units::{format_age, format_bytes, format_count, format_number};
use crate::profile::{
    Allocation, Amount, By, Dictionary, Filter, Frame, LiveBlock, Moment, Profile, Row, Subject, Uncertainty,
    View,
};

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

    /// The time zone of times of day.
    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Emphasized text.
    pub(super) fn emphasis(&self, text: &str) -> String {
        self.paint(BOLD, text).to_string()
    }

    fn header(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let time = profile.time.to_zoned(self.zone.clone());
        let (target, method) = match &profile.subject {
            Subject::Processes(of) => (
                format!("{}, traced for ", processes(of)),
                format!(", {}; {}", allocators(of), method(profile, of)),
            ),
            Subject::Kernel(of) => (
                format!("{}, traced for ", kernel::target(of)),
                format!("; {}", kernel::method(sizes(&profile.filter), older(&profile.filter))),
            ),
        };
        writeln!(
            out,
            "[{}] {}{target}{}{method}",
            time.strftime("%H:%M:%S"),
            if profile.last { "last report: " } else { "" },
            format_age(profile.elapsed),
        )
    }

    /// The amounts of the whole report.
    fn amounts(&self, out: &mut dyn Write, profile: &Profile) -> io::Result<()> {
        let processes = profile.processes();
        let mode = processes.map(|of| &of.mode);
        let uncertainty = processes.and_then(|of| of.uncertainty);
        let (bytes, blocks) = estimates::amounts(profile.outstanding, uncertainty, noun(profile));
        let samples = uncertainty.map(samples).unwrap_or_default();
        let is_part = mode.is_some_and(|mode| mode.attached.gaps > 0 || mode.leaves_code_out());
        let of_what = if is_part { " (of what was seen)" } else { "" };
        writeln!(
            out,
            "Outstanding{of_what}: {} in {blocks}, {}{samples}",
            self.paint(BOLD, bytes),
            estimates::rate(profile.bytes_per_second, mode)
        )?;
        if let Some(overhead) = processes.and_then(|of| of.overhead.as_ref()) {
            writeln!(out, "{}", estimates::cost(overhead))?;
        }
        if let Some(balance) = mode.and_then(estimates::balance) {
            writeln!(out, "{balance}")?;
        }
        if let Some(check) = processes.and_then(|of| of.leak_check.as_deref()) {
            writeln!(out, "{}", leaks::check(check))?;
            if check.moment == Moment::AtExit {
                writeln!(out, "\n{}", leaks::summary(check))?;
            }
        }
        Ok(())
    }

    fn row(&self, out: &mut dyn Write, rank: usize, row: &Row, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let mode = profile.processes().map(|of| &of.mode);
        let (bytes, blocks) = estimates::amounts(row.outstanding, row.uncertainty(), noun(profile));
        write!(
            out,
            "#{rank}  {} in {blocks}{}",
            self.paint(BOLD, bytes),
            row.uncertainty().map(samples).unwrap_or_default()
        )?;
        if let Some(detail) = row.kernel() {
            write!(out, "{}", kernel::of(view.dictionary(), detail))?;
        }
        if let Some(share) = estimates::share(row.outstanding.bytes, profile.outstanding.bytes) {
            write!(out, ", {share} of the total")?;
        }
        write!(out, "{}, {}", process(profile, row.pid()), estimates::rate(row.bytes_per_second, mode))?;
        if let Some(detail) = row.kernel() {
            write!(out, "{}", kernel::more(row, detail, profile))?;
        }
        let words = if row.oldest.exact { "oldest" } else { "none older than" };
        write!(out, ", {words} {}", format_age(row.oldest.age))?;
        // How many of the old blocks, or of those watched for long enough, were freed is unknown.
        if profile.filter.older.is_none() && !mode.is_some_and(|mode| mode.attached.open) {
            write!(
                out,
                ", freed {}{} of {}",
                if row.uncertainty().is_some() { "about " } else { "" },
                format_number(row.freed.blocks),
                format_count(row.allocated.blocks, noun(profile))
            )?;
        }
        writeln!(out, "  {}", self.paint(DIM, format_args!("stack {:016x}", row.id)))?;
        let check = profile.processes().and_then(|of| of.leak_check.as_deref());
        if let Some(lost) = row.leaked.as_ref().and_then(|leaked| leaks::row(leaked, check)) {
            writeln!(out, "    {}", self.paint(BOLD, lost))?;
        } else if let Some(holders) = leaks::holders(&row.held_by) {
            writeln!(out, "    {holders}")?;
        }
        let frames = view.frames(row.stack);
        match profile.subject {
            Subject::Kernel(_) => kernel::frames(out, &frames)?,
            Subject::Processes(_) => self.frames(out, &frames)?,
        }
        match (row.incomplete.map(reason_words), frames.is_empty()) {
            (Some(reason), true) => writeln!(out, "    (no frames: {reason})")?,
            (Some(reason), false) => writeln!(out, "    (outer callers are missing: {reason})")?,
            (None, true) => writeln!(out, "    (the frames of this stack were not received)")?,
            (None, false) => {}
        }
        row.blocks.iter().try_for_each(|block| live_block(out, block))
    }

    pub(super) fn frames(&self, out: &mut dyn Write, frames: &[Frame<'_>]) -> io::Result<()> {
        let mut rest = frames;
        while let Some((frame, after)) = rest.split_first() {
            let folded = rest.iter().take_while(|frame| is_rust_runtime(frame)).count();
            if folded >= FOLDED {
                writeln!(
                    out,
                    "    {}",
                    self.paint(DIM, format_args!("… {folded} frames of the Rust runtime"))
                )?;
                rest = rest.get(folded..).unwrap_or_default();
                continue;
            }
            rest = after;
            let place = format_args!("{}+{:#x}", Module(frame.module), frame.module_offset);
            let Some(function) = frame.function else {
                writeln!(out, "    {place}")?;
                continue;
            };
            write!(out, "    {}", short(function))?;
            if frame.inlined {
                write!(out, " [inlined]")?;
            }
            if let Some(file) = frame.file {
                write!(out, "  {}", short(file))?;
                if let Some(line) = frame.line {
                    write!(out, ":{line}")?;
                }
            }
            writeln!(out, "  {}", self.paint(DIM, format_args!("({place})")))?;
        }
        Ok(())
    }

    /// What the rows leave out, or why there are none.
    fn remainder(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let (hidden, bytes) = view.hidden();
        if hidden > 0 {
            return writeln!(
                out,
                "\n… and {} {} {} (--top 0 shows all)",
                format_number(u64::try_from(hidden).unwrap_or(u64::MAX)),
                if hidden == 1 { "more stack holds" } else { "more stacks hold" },
                self.paint(BOLD, format_bytes(bytes))
            );
        }
        if view.rows_found() > 0 {
            return Ok(());
        }
        let mode = profile.processes().map(|of| &of.mode);
        if profile.filter != Filter::default() || view.selection().filters() {
            writeln!(out, "No outstanding block passes the filter; others may exist.")
        } else if profile.outstanding.blocks > 0 {
            writeln!(out, "No stack with outstanding allocations passes the filters.")
        } else if mode.is_some_and(|mode| !mode.exact) {
            let open = mode.is_some_and(|mode| mode.attached.open);
            let seen = if open { "seen for long enough" } else { "sampled or seen" };
            writeln!(out, "Nothing that was {seen} is outstanding; the rest is unknown.")
        } else {
            writeln!(
                out,
                "Nothing allocated since tracing began is outstanding. (Earlier allocations are unknown.)"
            )
        }
    }

    /// Memory that the target mapped itself. Large areas that live as long as the process are common: a few stacks suffice.
    fn mappings(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let rows = view.profile().processes().and_then(|of| of.mapped.as_deref()).unwrap_or_default();
        let all = rows.iter().fold(Amount::default(), |sum, row| sum.plus(row.mapped));
        if all.blocks == 0 {
            return Ok(());
        }
        writeln!(
            out,
            "\nMapped by the program itself (mmap, not counted above): {} in {}",
            self.paint(BOLD, format_bytes(all.bytes)),
            format_count(all.blocks, "range"),
        )?;
        for row in view.mappings().unwrap_or_default().into_iter().take(MAPPINGS_SHOWN) {
            writeln!(
                out,
                "  {} in {}{}, oldest {}  {}",
                self.paint(BOLD, format_bytes(row.mapped.bytes)),
                format_count(row.mapped.blocks, "range"),
                process(view.profile(), row.pid),
                format_age(row.oldest),
                self.paint(DIM, format_args!("stack {:016x}", row.id))
            )?;
            self.frames(out, &view.frames(row.stack))?;
        }
        Ok(())
    }

    fn remarks(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let losses = losses::of(profile);
        let gaps = profile.processes().and_then(|of| estimates::gaps(&of.mode));
        let remarks = profile.remarks.iter().map(|remark| remarks::sentence(view.dictionary(), remark));
        let notes: Vec<String> = gaps.into_iter().chain(remarks).collect();
        if !losses.is_empty() || !notes.is_empty() {
            writeln!(out)?;
        }
        for sentence in losses {
            writeln!(out, "{} {sentence}", self.paint(BOLD, "Lost:"))?;
        }
        notes.iter().try_for_each(|note| writeln!(out, "Note: {}", escape(note)))
    }
}

impl Reporter for Text {
    fn report(&mut self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        self.header(out, view)?;
        self.amounts(out, view.profile())?;
        if view.profile().kernel().is_none() || view.selection().by == By::Stack {
            for (index, row) in view.rows().enumerate() {
                writeln!(out)?;
                self.row(out, index + 1, row, view)?;
            }
            self.remainder(out, view)?;
        }
        self.mappings(out, view)?;
        kernel::caches(out, view)?;
        kernel::left_out(out, view.profile())?;
        self.remarks(out, view)?;
        writeln!(out)
    }

    fn allocation(
        &mut self,
        out: &mut dyn Write,
        dictionary: &Dictionary,
        event: &Allocation,
    ) -> io::Result<()> {
        writeln!(
            out,
            "{:>12.6}  {}/{}  {}  {:#x}  size {}  {}",
            event.elapsed.as_secs_f64(),
            event.pid,
            event.tid,
            if event.freed { "free " } else { "alloc" },
            event.address,
            self.paint(BOLD, event.size),
            self.paint(DIM, format_args!("stack {:016x}", event.id))
        )?;
        self.frames(out, &dictionary.frames_of(event.stack))
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

/// A module's path, escaped and shortened.
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

/// The noun for blocks.
fn noun(profile: &Profile) -> &'static str {
    if profile.kernel().is_some() { "object" } else { "block" }
}

/// The process of a row, if there are several.
fn process(profile: &Profile, pid: u32) -> String {
    let several = profile.processes().is_some_and(|of| of.processes.len() > 1);
    if several { format!(", process {pid}") } else { String::new() }
}

/// The samples behind an estimate.
fn samples(doubt: Uncertainty) -> String {
    format!(", from {}", format_count(doubt.samples, "sample"))
}

/// Frames of Rust's runtime in a row that are shown as one line.
const FOLDED: usize = 3;

/// Whether a frame only starts a Rust program or thread, or catches its panics: a dozen of them lie between `main`
/// and the program's own.
fn is_rust_runtime(frame: &Frame<'_>) -> bool {
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
    frame.function.is_some_and(|name| PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
}
