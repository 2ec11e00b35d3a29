//! The tables of a page: stacks by verdict, and mappings.

use std::io::{self, Write};

use super::curves;
use crate::profile::units::{format_age, format_bytes, format_number};
use crate::profile::{Frame, Kind, Row, Verdict, View};
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
    let found = view.rows_found();
    let title = if view.profile().heaps().is_some() { "Blocks by size" } else { "Stacks by verdict" };
    writeln!(out, "<section aria-labelledby=\"stacks\">\n<h2 id=\"stacks\">{title}</h2>")?;
    if found == 0 {
        return writeln!(out, "<p>No stack holds anything.</p>\n</section>");
    }
    if let Some(reason) = curves::missing(view.profile()) {
        writeln!(out, "<p class=\"soft\">{reason}</p>")?;
    }
    let caption = match found.saturating_sub(SHOWN) {
        0 => format!("All {found} stacks that hold something"),
        more => {
            let bytes =
                view.rows().skip(SHOWN).fold(0, |sum: u64, row| sum.saturating_add(row.outstanding.bytes));
            let (more, bytes) = (format_number(more as u64), format_bytes(bytes));
            format!("The first {SHOWN} stacks; {more} more hold {bytes}, see the flame graph")
        }
    };
    writeln!(
        out,
        "<div class=\"wide\"><table>\n<caption>{caption}</caption>\n<thead><tr><th scope=\"col\">Verdict</th>\
         <th scope=\"col\">Function</th><th scope=\"col\" class=\"n\">Bytes</th><th scope=\"col\" class=\"n less\">Blocks</th>\
         <th scope=\"col\" class=\"n\">Growth</th><th scope=\"col\" class=\"n less\">Oldest</th></tr></thead>\n<tbody>"
    )?;
    view.rows().take(SHOWN).enumerate().try_for_each(|(place, row)| stack(out, view, row, place))?;
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}

fn stack(out: &mut dyn Write, view: &View<'_>, row: &Row, place: usize) -> io::Result<()> {
    let profile = view.profile();
    let frames = view.frames(row.stack);
    let blamed = culprit(&frames);
    let frame = blamed.and_then(|place| frames.get(place));
    let function =
        frame.map_or_else(|| "no stack".to_owned(), |frame| shorten(&name(frame), NAME).into_owned());
    let source =
        frame.and_then(source).map(|source| format!(" <span class=\"soft\">{}</span>", markup(&source)));
    let verdict = row.verdict.as_deref();
    let kind = verdict.map(Verdict::kind).or((row.loss() != (0, 0)).then_some(Kind::Lost));
    let mode = profile.processes().map(|of| &of.mode);
    let growth = verdict.and_then(verdicts::growth);
    let growth = growth.unwrap_or_else(|| estimates::rate(row.bytes_per_second, mode));
    let oldest = format!("{}{}", if row.oldest.exact { "" } else { "at most " }, format_age(row.oldest.age));
    // A scan sees neither.
    let (growth, oldest) = if profile.heaps().is_some() { Default::default() } else { (growth, oldest) };
    let (bytes, blocks) = estimates::amounts(row.outstanding, row.uncertainty(), super::noun(profile));
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
        markup(&bytes),
        markup(&blocks),
        markup(&growth),
    )?;
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
        "<details><summary>stack {:016x}</summary><p class=\"soft\">{turnover}{process}</p><ol class=\"stack\">",
        row.id,
    )?;
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
    write!(out, "</ol>")?;
    if let Some(reason) = row.incomplete {
        write!(out, "<p>Outer callers are missing: {}</p>", reason_words(reason))?;
    }
    write!(out, "</details>")
}

/// The source file and the line of a frame.
fn source(frame: &Frame<'_>) -> Option<String> {
    let file = frame.file?;
    Some(frame.line.map_or_else(|| file.to_owned(), |line| format!("{file}:{line}")))
}

/// Memory that the program mapped itself.
pub(super) fn mappings(out: &mut dyn Write, view: &View<'_>) -> io::Result<()> {
    let rows = view.mappings().unwrap_or_default();
    if rows.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "<section aria-labelledby=\"mappings\">\n<h2 id=\"mappings\">Mapped by the program itself</h2>\n<div class=\"wide\"><table>\n\
         <caption>mmap, not counted above; the largest {}</caption>\n<thead><tr><th scope=\"col\">Function</th><th scope=\"col\" \
         class=\"n\">Bytes</th><th scope=\"col\">What</th></tr></thead>\n<tbody>",
        rows.len().min(SHOWN)
    )?;
    for row in rows.into_iter().take(SHOWN) {
        let frames = view.frames(row.stack);
        let function = culprit(&frames)
            .and_then(|place| frames.get(place))
            .map(|frame| shorten(&name(frame), NAME).into_owned());
        writeln!(
            out,
            "<tr><th scope=\"row\" class=\"name\">{}</th><td class=\"n\">{}</td><td>{}</td></tr>",
            markup(&function.unwrap_or_else(|| "no stack".to_owned())),
            format_bytes(row.mapped.bytes),
            markup(&mappings::amount(row, &frames))
        )?;
    }
    writeln!(out, "</tbody>\n</table></div>\n</section>")
}
