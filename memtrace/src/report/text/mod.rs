//! Text for people: what holds memory, most important first.

mod frames;
mod rows;
mod style;

use std::io::{self, Write};

use jiff::tz::TimeZone;

use super::{Reporter, balance, endings, escape, estimates, kernel, leaks, losses, remarks};
use super::{header, heap::HeapView};
use crate::profile::units::{format_bytes, format_count, format_number};
use crate::profile::{Allocation, Amount, By, Dictionary, Entry, Frame, Moment, View};
use rows::{noun, samples};
use style::{BOLD, DIM};

pub(super) use frames::one_line;
pub use style::Style;

/// The text format.
#[derive(Clone, Debug)]
pub struct Text {
    style: Style,
    zone: TimeZone,
}

impl Text {
    /// Text with times of day in `zone`.
    #[must_use]
    pub fn new(style: Style, zone: TimeZone) -> Self {
        Self { style, zone }
    }

    /// The time zone of times of day.
    pub(super) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Emphasized text.
    pub(super) fn emphasis(&self, text: &str) -> String {
        self.style.paint(BOLD, text).to_string()
    }

    /// Writes lines as wide as the terminal allows.
    pub(super) fn wrapped(&self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        self.style.write(out, text)
    }

    /// Writes the frames of a stack.
    pub(super) fn frames(&self, out: &mut dyn Write, frames: &[Frame<'_>]) -> io::Result<()> {
        frames::write(out, frames, &self.style, self.style.stack_lines())
    }

    /// A row as text has it, for a place of its own.
    pub(super) fn one_entry(&self, rank: usize, entry: Entry<'_>, view: &View<'_>) -> String {
        let mut text = Vec::new();
        // Writing to memory does not fail.
        let _ = self.entry(&mut text, rank, entry, view);
        self.broken(&text)
    }

    /// Lines as wide as the terminal allows.
    fn broken(&self, text: &[u8]) -> String {
        let mut lines = Vec::new();
        let _ = self.style.write(&mut lines, &String::from_utf8_lossy(text));
        String::from_utf8_lossy(&lines).into_owned()
    }

    fn header(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let time = profile.time.to_zoned(self.zone.clone());
        writeln!(
            out,
            "[{}] {}{}, {}{} {}",
            time.strftime("%H:%M:%S"),
            if profile.last { "last report: " } else { "" },
            header::target(profile),
            header::traced(profile),
            if profile.kernel().is_some() { ";" } else { "," },
            header::how(profile),
        )
    }

    /// The amounts of the whole report.
    fn amounts(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let processes = profile.processes();
        let mode = processes.map(|of| &of.mode);
        let uncertainty = processes.and_then(|of| of.uncertainty);
        let (bytes, blocks) = estimates::amounts(profile.outstanding, uncertainty, noun(profile));
        let samples = uncertainty.map(|doubt| format!(", {}", samples(doubt))).unwrap_or_default();
        let is_part = mode.is_some_and(|mode| mode.attached.gaps > 0 || mode.leaves_code_out());
        let of_what = if is_part { " (of what was seen)" } else { "" };
        writeln!(
            out,
            "Outstanding{of_what}: {} in {blocks}, {}{samples}",
            self.style.paint(BOLD, bytes),
            estimates::rate(profile.bytes_per_second, mode)
        )?;
        if let Some(overhead) = processes.and_then(|of| of.overhead.as_ref()) {
            writeln!(out, "{}", estimates::cost(overhead))?;
        }
        if let Some(balance) = mode.and_then(estimates::balance) {
            writeln!(out, "{balance}")?;
        }
        if let Some(found) = processes.and_then(leaks::checked) {
            writeln!(out, "{found}")?;
        }
        if let Some(check) = processes.and_then(|of| of.leak_check.as_deref()) {
            endings::before_the_end(profile).map_or(Ok(()), |line| writeln!(out, "{line}"))?;
            if let Some(line) = leaks::before(check, |size| rows::loser(view, size)) {
                writeln!(out, "{line}")?;
            }
            if check.moment == Moment::AtExit {
                writeln!(out, "\n{}", leaks::summary(check, profile))?;
            }
        }
        Ok(())
    }

    /// What the rows leave out, or why there are none.
    fn remainder(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let (settled, settled_bytes) = view.settled();
        let (hidden, bytes) = view.hidden();
        if hidden > 0 {
            writeln!(
                out,
                "\n… and {} {} {} (--top 0 shows all)",
                format_number(u64::try_from(hidden).unwrap_or(u64::MAX)),
                if hidden == 1 { "more stack holds" } else { "more stacks hold" },
                self.style.paint(BOLD, format_bytes(bytes))
            )?;
        }
        if settled > 0 {
            writeln!(
                out,
                "{}Steady or start-up: {}, {} (--all)",
                if hidden > 0 { "" } else { "\n" },
                format_count(u64::try_from(settled).unwrap_or(u64::MAX), "stack"),
                format_bytes(settled_bytes)
            )?;
        }
        if view.rows_found() > 0 {
            return Ok(());
        }
        let mode = profile.processes().map(|of| &of.mode);
        if profile.is_limited() || view.selection().filters() {
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

    /// Memory that the target mapped itself, all in all.
    fn mappings(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let rows = view.profile().processes().and_then(|of| of.mapped.as_deref()).unwrap_or_default();
        let all = rows.iter().fold(Amount::default(), |sum, row| sum.plus(row.mapped));
        if all.blocks == 0 {
            return Ok(());
        }
        let left_out = |why: &str, (stacks, bytes): (usize, u64), option: &str| match stacks {
            0 => String::new(),
            _ => {
                let stacks = format_count(stacks as u64, "stack");
                format!("; {why}: {stacks}, {} ({option})", format_bytes(bytes))
            }
        };
        let hidden = left_out("not shown", view.hidden_mappings(), "--top 0");
        let settled = left_out("steady or start-up", view.settled_mappings(), "--all");
        writeln!(
            out,
            "\nMapped by the program itself (mmap, not outstanding): {} in {}{hidden}{settled}",
            self.style.paint(BOLD, format_bytes(all.bytes)),
            format_count(all.blocks, "range"),
        )
    }

    fn remarks(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let losses = losses::of(profile);
        let gaps = profile.processes().and_then(|of| estimates::gaps(&of.mode));
        let remarks = profile.remarks.iter().filter(|remark| !endings::is_heading(remark));
        let remarks = remarks.map(|remark| remarks::sentence(view.dictionary(), remark));
        let notes: Vec<String> = gaps.into_iter().chain(remarks).collect();
        if !losses.is_empty() || !notes.is_empty() {
            writeln!(out)?;
        }
        for sentence in losses {
            writeln!(out, "{} {sentence}", self.style.paint(BOLD, "Missed:"))?;
        }
        notes.iter().try_for_each(|note| writeln!(out, "Note: {}", escape(note)))
    }

    fn everything(&self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        self.header(out, view)?;
        for (word, sentence) in endings::headings(view.profile()) {
            writeln!(out, "{} {}", self.style.paint(BOLD, word), escape(&sentence))?;
        }
        balance::lines(view).iter().try_for_each(|line| writeln!(out, "{}", escape(line)))?;
        self.amounts(out, view)?;
        if view.profile().kernel().is_none() || view.selection().by == By::Stack {
            for (index, entry) in view.entries().into_iter().enumerate() {
                writeln!(out)?;
                self.entry(out, index + 1, entry, view)?;
            }
            self.remainder(out, view)?;
        }
        self.mappings(out, view)?;
        kernel::caches(out, view)?;
        kernel::left_out(out, view.profile())?;
        self.remarks(out, view)?;
        writeln!(out)
    }
}

impl Reporter for Text {
    fn report(&mut self, out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
        if let Some(heaps) = HeapView::all(view) {
            return heaps.iter().try_for_each(|heap| self.heap(out, heap));
        }
        let mut text = Vec::new();
        self.everything(&mut text, view)?;
        self.style.write(out, &String::from_utf8_lossy(&text))
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
            self.style.paint(BOLD, event.size),
            self.style.paint(DIM, format_args!("stack {:016x}", event.id))
        )?;
        self.frames(out, &dictionary.frames_of(event.stack))
    }
}
