//! A stack in a report: what it holds, who allocated it, its frames.

use std::io::{self, Write};

use super::Text;
use super::frames::one_line;
use super::style::{BOLD, DIM};
use crate::profile::units::{format_age, format_bytes, format_count, format_number};
use crate::profile::{
    Amount, Entry, Frame, LiveBlock, MappingRow, Profile, Row, Subject, Uncertainty, Verdict, View,
    is_rounded_to,
};
use crate::report::blame::culprit;
use crate::report::losses::reason_words;
use crate::report::mappings::shown;
use crate::report::{estimates, kernel, leaks, mappings, verdicts};

/// What lines of a row begin with.
const INDENT: &str = "    ";

impl Text {
    /// A row of any kind.
    pub(super) fn entry(
        &self,
        out: &mut dyn Write,
        rank: usize,
        entry: Entry<'_>,
        view: &View<'_>,
    ) -> io::Result<()> {
        match entry {
            Entry::Blocks(row) => self.row(out, rank, row, view),
            Entry::Mapping(row) => self.mapping(out, rank, row, view),
        }
    }

    fn row(&self, out: &mut dyn Write, rank: usize, row: &Row, view: &View<'_>) -> io::Result<()> {
        let frames = view.frames(row.stack);
        match view.profile().subject {
            Subject::Kernel(_) => {
                self.kernel_row(out, rank, row, view)?;
                kernel::frames(out, &frames)?;
            }
            Subject::Processes(_) | Subject::Heaps(_) => {
                self.headline(out, &self.head(rank, row, view.profile()), &frames)?;
                self.details(out, row, view.profile())?;
                self.found(out, row, view.profile())?;
                self.frames(out, &frames)?;
            }
        }
        match (row.incomplete.map(reason_words), frames.is_empty()) {
            (Some(reason), true) => writeln!(out, "    (no frames: {reason})")?,
            (Some(reason), false) => writeln!(out, "    (outer callers are missing: {reason})")?,
            (None, true) => writeln!(out, "    (the frames of this stack were not received)")?,
            (None, false) => {}
        }
        row.blocks.iter().try_for_each(|block| live_block(out, block))
    }

    /// What a stack mapped itself.
    fn mapping(&self, out: &mut dyn Write, rank: usize, row: &MappingRow, view: &View<'_>) -> io::Result<()> {
        let frames = view.frames(row.stack);
        let verdict = row.verdict.as_deref();
        let growth = verdict.and_then(verdicts::growth).map(|growth| format!(", {growth}"));
        let mapped = self.style.paint(BOLD, format_bytes(row.mapped.bytes));
        let head = format!("#{rank}  {}{mapped} mapped{}", self.verdict(verdict), growth.unwrap_or_default());
        self.headline(out, &head, &frames)?;
        writeln!(
            out,
            "{INDENT}{}{}  {}",
            mappings::amount(row, &frames),
            process(view.profile(), row.pid),
            self.style.paint(DIM, format_args!("stack {:016x}", row.id))
        )?;
        if let Some(verdict) = verdict {
            writeln!(out, "{INDENT}{}", verdicts::of_mappings(verdict))?;
        }
        if frames.is_empty() {
            writeln!(out, "{INDENT}(the frames of this stack were not received)")?;
        }
        self.frames(out, &frames)
    }

    /// The first line of a row, with who is to blame.
    fn headline(&self, out: &mut dyn Write, head: &str, frames: &[Frame<'_>]) -> io::Result<()> {
        let room = self.style.line().saturating_sub(INDENT.len());
        let blamed = culprit(frames).and_then(|place| frames.get(place));
        let Some(name) = blamed.map(|frame| one_line(frame, room)) else {
            return writeln!(out, "{head}");
        };
        // Where the line is too short for both, the name has one of its own.
        let width = textwrap::core::display_width;
        let fits = width(head) + 2 + width(&name) <= self.style.line();
        let between = if fits { " ".to_owned() } else { format!("\n{INDENT}") };
        writeln!(out, "{head}:{between}{}", self.style.paint(BOLD, name))
    }

    /// The name of a verdict, as a head begins with it.
    fn verdict(&self, verdict: Option<&Verdict>) -> String {
        let name = verdict.map(|verdict| {
            let kind = verdict.kind();
            format!("{}  ", self.style.paint(verdicts::colour(kind), verdicts::name(kind)))
        });
        name.unwrap_or_default()
    }

    /// What a stack holds, and how fast it grows.
    fn head(&self, rank: usize, row: &Row, profile: &Profile) -> String {
        let mode = profile.processes().map(|of| &of.mode);
        let (bytes, blocks) = estimates::amounts(row.outstanding, row.uncertainty(), noun(profile));
        let verdict = row.verdict.as_deref();
        let growth = verdict.and_then(verdicts::growth);
        format!(
            "#{rank}  {}{} in {blocks}, {}",
            self.verdict(verdict),
            self.style.paint(BOLD, bytes),
            growth.unwrap_or_else(|| estimates::rate(row.bytes_per_second, mode))
        )
    }

    /// The other figures of a stack.
    fn details(&self, out: &mut dyn Write, row: &Row, profile: &Profile) -> io::Result<()> {
        let mode = profile.processes().map(|of| &of.mode);
        let share = estimates::share(row.outstanding.bytes, profile.outstanding.bytes);
        let share = share.map(|share| format!("{share} of the total, ")).unwrap_or_default();
        let doubt = row.uncertainty().map(|doubt| format!("{}, ", samples(doubt))).unwrap_or_default();
        write!(out, "    {share}{doubt}{}{}", oldest(row), processes(profile, row))?;
        // How many of the old blocks, or of those watched for long enough, were freed is unknown.
        if !profile.is_part() && !mode.is_some_and(|mode| mode.attached.open) {
            write!(out, ", {}", freed(row, profile))?;
        }
        writeln!(out, "  {}", self.style.paint(DIM, format_args!("stack {:016x}", row.id)))
    }

    /// What a leak check found, and why the stack has its verdict.
    fn found(&self, out: &mut dyn Write, row: &Row, profile: &Profile) -> io::Result<()> {
        let check = profile.processes().and_then(|of| of.leak_check.as_deref());
        // Evidence is that of one process.
        let whose = row.merged.as_ref().and_then(|merged| merged.pids.first());
        let whose = whose.map(|pid| format!("process {pid}: ")).unwrap_or_default();
        if let Some(lost) = row.leaked.as_ref().and_then(|leaked| leaks::row(leaked, check)) {
            writeln!(out, "    {}", self.style.paint(BOLD, lost))?;
        } else if let Some(holders) = leaks::holders(&row.held_by) {
            writeln!(out, "    {whose}{holders}")?;
        }
        if let Some(possibly) = row.leaked.as_ref().and_then(leaks::possibly) {
            writeln!(out, "    {possibly}")?;
        }
        if let Some(reason) = row.verdict.as_deref().and_then(verdicts::line) {
            writeln!(out, "    {whose}{reason}")?;
        }
        Ok(())
    }

    /// The line of a stack in the kernel.
    fn kernel_row(&self, out: &mut dyn Write, rank: usize, row: &Row, view: &View<'_>) -> io::Result<()> {
        let profile = view.profile();
        let (bytes, blocks) = estimates::amounts(row.outstanding, row.uncertainty(), noun(profile));
        write!(out, "#{rank}  {} in {blocks}", self.style.paint(BOLD, bytes))?;
        if let Some(detail) = row.kernel() {
            write!(out, "{}", kernel::of(view.dictionary(), detail))?;
        }
        if let Some(share) = estimates::share(row.outstanding.bytes, profile.outstanding.bytes) {
            write!(out, ", {share} of the total")?;
        }
        write!(out, ", {}", estimates::rate(row.bytes_per_second, None))?;
        if let Some(detail) = row.kernel() {
            write!(out, "{}", kernel::more(row, detail, profile))?;
        }
        write!(out, ", {}", oldest(row))?;
        if !profile.is_part() {
            write!(out, ", {}", freed(row, profile))?;
        }
        writeln!(out, "  {}", self.style.paint(DIM, format_args!("stack {:016x}", row.id)))
    }
}

/// Who loses blocks now that glibc or jemalloc rounds to that size.
pub(super) fn loser(view: &View<'_>, size: u64) -> Option<String> {
    let row = view.rows().find(|row| {
        row.leaked.is_some_and(|leaked| {
            let Amount { bytes, blocks } = leaked.lost;
            blocks > 0 && bytes % blocks == 0 && is_rounded_to(bytes / blocks, size, None)
        })
    })?;
    let frames = view.frames(row.stack);
    let blamed = frames.get(culprit(&frames)?)?.function?;
    Some(shown(blamed))
}

fn oldest(row: &Row) -> String {
    let words = if row.oldest.exact { "oldest" } else { "none older than" };
    format!("{words} {}", format_age(row.oldest.age))
}

fn freed(row: &Row, profile: &Profile) -> String {
    format!(
        "freed {}{} of {}",
        if row.uncertainty().is_some() { "about " } else { "" },
        format_number(row.freed.blocks),
        format_count(row.allocated.blocks, noun(profile))
    )
}

fn live_block(out: &mut dyn Write, block: &LiveBlock) -> io::Result<()> {
    writeln!(out, "    addr = {:#x}  size = {}  age {}", block.address, block.size, format_age(block.age))
}

/// The noun for blocks.
pub(super) fn noun(profile: &Profile) -> &'static str {
    if profile.kernel().is_some() { "object" } else { "block" }
}

/// The process of a row, if there are several.
pub(super) fn process(profile: &Profile, pid: u32) -> String {
    let several = profile.targets().nth(1).is_some();
    if several { format!(", process {pid}") } else { String::new() }
}

/// The processes of a row, if there are several.
fn processes(profile: &Profile, row: &Row) -> String {
    let Some(merged) = &row.merged else { return process(profile, row.pid()) };
    let all = format!(", in {} processes", format_number(merged.pids.len() as u64));
    let kind = row.verdict.as_deref().map(Verdict::kind);
    match kind.filter(|_| merged.alike.len() < merged.pids.len()) {
        Some(kind) => {
            format!("{all}, {} in {} of them", verdicts::name(kind), format_number(merged.alike.len() as u64))
        }
        None => all,
    }
}

/// The samples behind an estimate.
pub(super) fn samples(doubt: Uncertainty) -> String {
    format!("from {}", format_count(doubt.samples, "sample"))
}
