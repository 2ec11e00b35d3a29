//! What covers the rows: an opened row, notes, help.

use jiff::tz::TimeZone;
use ratatui::text::Line;

use super::{BOLD, DIM, PLAIN, State, WARNING, line, wrapped};
use crate::profile::units::{format_age, format_number};
use crate::profile::{Entry, Lifetimes, View, lifetime_begin};
use crate::report::text::{Style, Text};
use crate::report::{estimates, leaks, losses, remarks};

/// Columns of a bar.
const BAR: usize = 30;

const HELP: &str = "\
Up Down, j k     select a row; PgUp, PgDn, Home, End too
Enter, Esc       open it: frames, lifetimes, holder; back, or filter off
s                sort by verdict, bytes, blocks, growth, age, lost
/                show rows with this text in a function, file or module
Space            freeze the screen; tracing goes on
m                mark this moment, and show what is allocated since
t                show: since the last mark, between the last two, everything
c                check for leaks as soon as possible
w                save the report for `memtrace report`; as text if named .txt
n                notes: what was lost, how figures came about
f                whole names and every frame in an opened row
q, Ctrl-C        quit; the process goes on

VERDICT  lost: nothing in the process points to it. growing: blocks outlive what is
usually freed. warming up: grows ever slower. steady, start-up: no leak.
GROWTH is that of the blocks; ~ marks an estimate from samples.
The process's line: RSS and its growth = blocks + mapped + … (docs/balance.md).";

/// The keys.
pub(super) fn help() -> Vec<Line<'static>> {
    HELP.lines().map(|text| line(text, PLAIN)).collect()
}

/// What affects the figures: losses, remarks, the last leak check, the cost.
pub(super) fn notes(view: &View<'_>, width: usize) -> Vec<Line<'static>> {
    let profile = view.profile();
    let mut lines = Vec::new();
    for sentence in losses::of(profile) {
        lines.extend(wrapped(&format!("Missed: {sentence}"), width, usize::MAX, WARNING));
    }
    let of = profile.processes();
    let gaps = of.and_then(|of| estimates::gaps(&of.mode));
    let said = profile.remarks.iter().map(|remark| remarks::sentence(view.dictionary(), remark));
    for sentence in gaps.into_iter().chain(said) {
        lines.extend(wrapped(&format!("Note: {sentence}"), width, usize::MAX, PLAIN));
    }
    let check = of.and_then(leaks::checked).unwrap_or_else(|| "Leak check: none so far".to_owned());
    let cost = of.and_then(|of| of.overhead.as_ref()).map(estimates::cost);
    let windows = of.and_then(|of| estimates::balance(&of.mode));
    for sentence in [Some(check), cost, windows].into_iter().flatten() {
        lines.extend(wrapped(&sentence, width, usize::MAX, DIM));
    }
    lines
}

/// How many notes there are that are worth a look.
pub(super) fn notes_found(view: &View<'_>) -> usize {
    losses::of(view.profile()).len() + view.profile().remarks.len()
}

/// Everything that is known of a row; `rank`: its place.
pub(super) fn row(
    view: &View<'_>,
    entry: &Entry<'_>,
    rank: usize,
    state: &State,
    width: usize,
) -> Vec<Line<'static>> {
    let style =
        Style { width: Some(width), full_names: state.full_names, whole_stacks: true, ..Style::default() };
    let text = Text::new(style, TimeZone::UTC);
    let verdict = match entry {
        Entry::Blocks(row) => row.verdict.as_deref(),
        Entry::Mapping(row) => row.verdict.as_deref(),
    };
    let lifetimes = verdict.and_then(|verdict| verdict.lifetimes.as_ref());
    let text = text.one_entry(rank, *entry, view);
    let mut lines: Vec<Line<'static>> = Vec::new();
    for (number, shown) in text.lines().enumerate() {
        let is_blamed = shown.starts_with("  > ");
        lines.push(line(shown, if number == 0 || is_blamed { BOLD } else { PLAIN }));
    }
    lines.extend(lifetimes.into_iter().flat_map(lived));
    lines
}

/// How long freed blocks lived.
fn lived(lifetimes: &Lifetimes) -> Vec<Line<'static>> {
    let most = lifetimes.iter().copied().max().unwrap_or(0);
    if most == 0 {
        return vec![line("    Freed blocks lived: none was freed", DIM)];
    }
    let mut lines = vec![line("    Freed blocks lived:", DIM)];
    for (class, &blocks) in lifetimes.iter().enumerate().filter(|(_, blocks)| **blocks > 0) {
        let from = format_age(lifetime_begin(class));
        let to = match class + 1 < lifetimes.len() {
            true => format!("under {}", format_age(lifetime_begin(class + 1))),
            false => "and more".to_owned(),
        };
        let bar = "█".repeat((BAR * blocks as usize).div_ceil(most as usize));
        let text = format!("    {from:>9} {to:<15} {bar:<BAR$} {}", format_number(blocks.into()));
        lines.push(line(text.trim_end(), DIM));
    }
    lines
}
