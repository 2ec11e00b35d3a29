//! The table of a page: stacks by verdict, those that mapped memory themselves among them.

use std::{
    io::{self, Write},
    iter,
};

use super::curves;
use crate::profile::units::{format_age, format_bytes, format_count, format_number};
use crate::profile::{Entry, Frame, Kind, MappingRow, Row, Verdict, View};
use crate::report::blame::culprit;
use crate::report::escape::markup;
use crate::report::flame::colour;
use crate::report::losses::reason_words;
use crate::report::names::shorten;
use crate::report::stacks::name;
use crate::report::{estimates, kernel, leaks, mappings, verdicts};

/// Stacks in the table; the flame graph has all.
const SHOWN: usize = 100;
/// Stacks whose curves are seen without a click.
const OPEN: usize = 5;
/// Frames of a stack in the table.
const FRAMES: usize = 128;
/// Characters of a function's name.
const NAME: usize = 160;

/// The stacks, in order: by verdict, unless asked for otherwise.
pub(super) fn stacks(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let entries = view.entries();
    let (title, what) = match view.profile().heaps() {
        Some(_) => ("Blocks by size", "sizes"),
        None => ("Stacks by verdict", "stacks"),
    };
    writeln!(out, "<section aria-labelledby=\"stacks\">\n<h2 id=\"stacks\">{title}</h2>")?;
    if entries.is_empty() {
        return writeln!(out, "<p>No stack holds anything.</p>\n</section>");
    }
    if let Some(reason) = curves::missing(view.profile()) {
        writeln!(out, "<p class=\"soft\">{reason}</p>")?;
    }
    let caption = match entries.len().saturating_sub(SHOWN) {
        0 => format!("All {} {what} that hold something", entries.len()),
        more => {
            let bytes =
                entries.iter().skip(SHOWN).fold(0, |sum: u64, entry| sum.saturating_add(entry.bytes()));
            let (more, bytes) = (format_number(more as u64), format_bytes(bytes));
            format!("The first {SHOWN} {what}; {more} more hold {bytes}, see the flame graph")
        }
    };
    writeln!(
        out,
        "<div class=\"wide\"><table class=\"stacks\">\n<caption>{caption}</caption>\n<thead><tr><th scope=\"col\">Verdict</th>\
         <th scope=\"col\">Function</th><th scope=\"col\" class=\"n\">Bytes</th><th scope=\"col\" class=\"n less\">Blocks</th>\
         <th scope=\"col\" class=\"n\">Growth</th><th scope=\"col\" class=\"n less\">Oldest</th></tr></thead>\n<tbody>"
    )?;
    for (place, entry) in entries.into_iter().take(SHOWN).enumerate() {
        match entry {
            Entry::Blocks(row) => stack(out, view, row, place)?,
            Entry::Mapping(row) => mapping(out, view, row)?,
        }
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

/// The cells of a row's first line.
struct Head {
    kind: Option<Kind>,
    bytes: String,
    blocks: String,
    growth: String,
    oldest: String,
}

fn head(out: &mut dyn Write, head: &Head, blamed: Option<&Frame<'_>>) -> io::Result<()> {
    let function =
        blamed.map_or_else(|| "no stack".to_owned(), |frame| shorten(&name(frame), NAME).into_owned());
    let source =
        blamed.and_then(source).map(|source| format!(" <span class=\"soft\">{}</span>", markup(&source)));
    let Head { kind, bytes, blocks, growth, oldest } = head;
    writeln!(
        out,
        "<tr class=\"head\"><td>{}</td><th scope=\"row\" class=\"name\">{}{}</th><td class=\"n\">{}</td><td class=\"n less\">{}</td>\
         <td class=\"n\">{}</td><td class=\"n less\">{oldest}</td></tr>",
        kind.map_or_else(String::new, |kind| {
            let fill = colour(Some(kind));
            format!("<span class=\"kind\" style=\"background:{fill}\">{}</span>", verdicts::name(kind))
        }),
        markup(&function),
        source.unwrap_or_default(),
        markup(&unbroken(bytes)),
        markup(&unbroken(blocks)),
        markup(&unbroken(growth)),
    )
}

fn stack(out: &mut dyn Write, view: &View<'_>, row: &Row, place: usize) -> io::Result<()> {
    let profile = view.profile();
    let frames = view.frames(row.stack);
    let blamed = culprit(&frames);
    let verdict = row.verdict.as_deref();
    let mode = profile.processes().map(|of| &of.mode);
    let growth = verdict.and_then(verdicts::growth);
    let growth = growth.unwrap_or_else(|| estimates::rate(row.bytes_per_second, mode));
    let oldest = format!("{}{}", if row.oldest.exact { "" } else { "at most " }, format_age(row.oldest.age));
    // A scan sees neither.
    let (growth, oldest) = if profile.heaps().is_some() { Default::default() } else { (growth, oldest) };
    let (bytes, blocks) = estimates::amounts(row.outstanding, row.uncertainty(), super::noun(profile));
    let kind = verdict.map(Verdict::kind).or((row.loss() != (0, 0)).then_some(Kind::Lost));
    let cells = Head { kind, bytes, blocks, growth, oldest };
    head(out, &cells, blamed.and_then(|place| frames.get(place)))?;
    write!(out, "<tr class=\"more\"><td></td><td colspan=\"5\">")?;
    let check = profile.processes().and_then(|of| of.leak_check.as_deref());
    let lost = row.leaked.as_ref().and_then(|leaked| leaks::row(leaked, check));
    let detail = row.kernel().map(|detail| {
        format!("{}{}", kernel::of(view.dictionary(), detail), kernel::more(row, detail, profile))
    });
    let reason = verdict.and_then(verdicts::line);
    let found = lost.or_else(|| leaks::holders(&row.held_by));
    let possibly = row.leaked.as_ref().and_then(leaks::possibly);
    for line in [found, possibly, reason, detail].into_iter().flatten() {
        write!(out, "<p>{}</p>", markup(line.trim_start()))?;
    }
    curves::stack(out, view, row, (place, place < OPEN))?;
    details(out, view, row, &frames, blamed)?;
    writeln!(out, "</td></tr>")
}

/// What a stack mapped itself.
fn mapping(out: &mut dyn Write, view: &View<'_>, row: &MappingRow) -> io::Result<()> {
    let frames = view.frames(row.stack);
    let blamed = culprit(&frames);
    let verdict = row.verdict.as_deref();
    let cells = Head {
        kind: verdict.map(Verdict::kind),
        bytes: format!("{} mapped", format_bytes(row.mapped.bytes)),
        blocks: format_count(row.mapped.blocks, "range"),
        growth: verdict.and_then(verdicts::growth).unwrap_or_default(),
        oldest: format_age(row.oldest),
    };
    head(out, &cells, blamed.and_then(|place| frames.get(place)))?;
    write!(out, "<tr class=\"more\"><td></td><td colspan=\"5\">")?;
    for line in iter::once(mappings::amount(row, &frames)).chain(verdict.map(verdicts::of_mappings)) {
        write!(out, "<p>{}</p>", markup(&line))?;
    }
    write!(
        out,
        "<details><summary>stack {:016x}</summary><p class=\"soft\">process {}</p>",
        row.id, row.pid
    )?;
    list(out, &frames, blamed)?;
    writeln!(out, "</details></td></tr>")
}

/// Figures that break only between figures in a narrow column, not between a number and its unit.
fn unbroken(figures: &str) -> String {
    figures.replace(' ', "\u{a0}").replace(",\u{a0}", ", ").replace("\u{a0}±", " ±")
}

/// The frames of a stack and its other figures, folded up.
fn details(
    out: &mut dyn Write,
    view: &View<'_>,
    row: &Row,
    frames: &[Frame<'_>],
    blamed: Option<usize>,
) -> io::Result<()> {
    let process = match &row.merged {
        Some(merged) => format!(", in {} processes", merged.pids.len()),
        None if row.pid() == 0 => String::new(),
        None => format!(", process {}", row.pid()),
    };
    let (freed, allocated) = (format_number(row.freed.blocks), format_number(row.allocated.blocks));
    let turnover = match view.profile().heaps() {
        Some(_) => "scanned".to_owned(),
        None => format!("freed {freed} of {allocated} allocated"),
    };
    write!(
        out,
        "<details><summary>stack {:016x}</summary><p class=\"soft\">{turnover}{process}</p>",
        row.id,
    )?;
    list(out, frames, blamed)?;
    if let Some(reason) = row.incomplete {
        write!(out, "<p>Outer callers are missing: {}</p>", reason_words(reason))?;
    }
    write!(out, "</details>")
}

/// The frames of a stack.
fn list(out: &mut dyn Write, frames: &[Frame<'_>], blamed: Option<usize>) -> io::Result<()> {
    write!(out, "<ol class=\"stack\">")?;
    for (number, frame) in frames.iter().take(FRAMES).enumerate() {
        let class = if blamed == Some(number) { " class=\"blamed\"" } else { "" };
        let inlined = if frame.inlined { " (inlined)" } else { "" };
        let at = source(frame).unwrap_or_else(|| frame.module.to_owned());
        let function = shorten(&name(frame), NAME).into_owned();
        write!(
            out,
            "<li{class}>{} <span class=\"soft\">{}{inlined}</span></li>",
            markup(&function),
            markup(&at)
        )?;
    }
    if let Some(more) = frames.len().checked_sub(FRAMES).filter(|more| *more > 0) {
        write!(out, "<li>{more} more</li>")?;
    }
    write!(out, "</ol>")
}

/// The source file and the line of a frame.
fn source(frame: &Frame<'_>) -> Option<String> {
    let file = frame.file?;
    Some(frame.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
}
