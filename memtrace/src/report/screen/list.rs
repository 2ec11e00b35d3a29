//! The rows: one line each, and a second one for those that need attention.

use ratatui::{style::Modifier, text::Line};

use super::{BOLD, DIM, PLAIN, State, cut, line, of_kind, span, state::RowKey};
use crate::profile::units::{format_bytes, format_number};
use crate::profile::{Entry, Kind, Row, Verdict, View};
use crate::report::blame::culprit;
use crate::report::names::shorten;
use crate::report::stacks::name as name_of;
use crate::report::text::one_line;
use crate::report::{estimates, leaks, mappings, verdicts};

/// Columns of a verdict, a process, bytes, blocks, growth.
const VERDICT: usize = 11;
const PID: usize = 8;
const BYTES: usize = 10;
const BLOCKS: usize = 10;
const GROWTH: usize = 18;
/// Screens that are narrower have no column of blocks, or no growth.
const WIDE: usize = 100;
const NARROW: usize = 60;
/// Where there is less room, a function is shown without its file.
const WITH_PLACE: usize = 28;

/// What a row is known by.
pub(super) fn key(entry: &Entry<'_>) -> RowKey {
    match entry {
        Entry::Blocks(row) => RowKey { is_mapping: false, id: row.id, pid: row.pid() },
        Entry::Mapping(row) => RowKey { is_mapping: true, id: row.id, pid: row.pid },
    }
}

/// Which columns there is room for.
struct Columns {
    pid: bool,
    blocks: bool,
    growth: bool,
    width: usize,
}

impl Columns {
    fn new(view: &View<'_>, width: usize) -> Self {
        let pid = view.profile().processes().is_some_and(|of| of.processes.len() > 1);
        Self { pid, blocks: width >= WIDE, growth: width >= NARROW, width }
    }

    /// The columns before the last.
    fn before(&self, verdict: &str, pid: &str, bytes: &str, blocks: &str, growth: &str) -> [String; 2] {
        let mut rest = String::new();
        if self.pid {
            rest.push_str(&format!("{pid:>PID$} "));
        }
        rest.push_str(&format!("{bytes:>BYTES$}"));
        if self.blocks {
            rest.push_str(&format!("{blocks:>BLOCKS$}"));
        }
        if self.growth {
            rest.push_str(&format!(" {growth:>GROWTH$}"));
        }
        rest.push_str("  ");
        [format!("{verdict:<VERDICT$} "), rest]
    }
}

/// The names of the columns.
pub(super) fn heading(view: &View<'_>, state: &State, width: usize) -> Line<'static> {
    let columns = Columns::new(view, width);
    let [verdict, rest] = columns.before("  VERDICT", "PID", "BYTES", "BLOCKS", "GROWTH");
    let text = format!("{verdict}{rest}WHO  (sorted by {})", state.order());
    line(&format!("{:<width$}", cut(&text, width)), BOLD.add_modifier(Modifier::REVERSED))
}

/// The lines of the rows that there is room for, from the one that is scrolled to; scrolls to the selected one.
pub(super) fn lines(
    view: &View<'_>,
    entries: &[Entry<'_>],
    state: &mut State,
    width: usize,
    room: usize,
) -> Vec<Line<'static>> {
    let columns = Columns::new(view, width);
    state.rows = entries.iter().map(key).collect();
    let selected = state.place().unwrap_or(0);
    state.scroll = state.scroll.min(selected);
    let height = |entry: &Entry<'_>| 1 + usize::from(reason(view, entry).is_some());
    let heights: Vec<usize> = entries.iter().map(height).collect();
    let taken = |from: usize| heights.get(from..=selected).unwrap_or_default().iter().sum::<usize>();
    while state.scroll < selected && taken(state.scroll) > room {
        state.scroll += 1;
    }
    let mut lines = Vec::new();
    state.room = 0;
    for (place, entry) in entries.iter().enumerate().skip(state.scroll) {
        if lines.len() >= room {
            break;
        }
        state.room += 1;
        lines.push(row(view, entry, &columns, place == selected));
        lines.extend(reason(view, entry).map(|text| line(&cut(&format!("    {text}"), width), DIM)));
    }
    lines.truncate(room);
    lines
}

/// The verdict of a row. Without one, a leak check may still have found something.
fn kind(row: &Row) -> Option<Kind> {
    row.verdict.as_ref().map(|verdict| verdict.kind()).or((row.loss() != (0, 0)).then_some(Kind::Lost))
}

fn row(view: &View<'_>, entry: &Entry<'_>, columns: &Columns, is_selected: bool) -> Line<'static> {
    let mode = view.profile().processes().map(|of| &of.mode);
    let mark = if is_selected { "> " } else { "  " };
    let (name, style, pid, amount, is_estimate, growth, stack) = match entry {
        Entry::Blocks(row) => {
            let kind = kind(row);
            let growth = row.verdict.as_deref().and_then(verdicts::growth);
            let growth = growth.unwrap_or_else(|| estimates::rate(row.bytes_per_second, mode));
            let style = kind.map_or(PLAIN, of_kind);
            let name = kind.map_or("", verdicts::name);
            (name, style, row.pid(), row.outstanding, row.uncertainty().is_some(), growth, row.stack)
        }
        Entry::Mapping(row) => {
            let kind = row.verdict.as_deref().map(Verdict::kind);
            let growth = row.verdict.as_deref().and_then(verdicts::growth).unwrap_or_default();
            let (style, name) = (kind.map_or(PLAIN, of_kind), kind.map_or("", verdicts::name));
            (name, style, row.pid, row.mapped, false, growth, row.stack)
        }
    };
    let about = if is_estimate { "~" } else { "" };
    let [verdict, rest] = columns.before(
        &format!("{mark}{name}"),
        &pid.to_string(),
        &format!("{about}{}", format_bytes(amount.bytes)),
        &format!("{about}{}", format_number(amount.blocks)),
        &growth,
    );
    let room = columns.width.saturating_sub(verdict.chars().count() + rest.chars().count());
    let frames = view.frames(stack);
    let frame = culprit(&frames).and_then(|place| frames.get(place));
    let who = match frame {
        None => "(no stack)".to_owned(),
        Some(frame) if room < WITH_PLACE => shorten(&name_of(frame), room).into_owned(),
        Some(frame) => one_line(frame, room),
    };
    let emphasis = if is_selected { Modifier::BOLD | Modifier::UNDERLINED } else { Modifier::empty() };
    Line::from(vec![
        span(&verdict, style),
        span(&rest, PLAIN),
        span(&cut(&who, room), PLAIN.add_modifier(emphasis)),
    ])
}

/// Why a row needs attention.
fn reason(view: &View<'_>, entry: &Entry<'_>) -> Option<String> {
    let row = match entry {
        Entry::Blocks(row) => row,
        Entry::Mapping(row) => {
            return Some(format!("mapped {}", mappings::amount(row, &view.frames(row.stack))));
        }
    };
    let check = view.profile().processes().and_then(|of| of.leak_check.as_deref());
    match kind(row)? {
        Kind::Lost => row.leaked.as_ref().and_then(|leaked| leaks::row(leaked, check)),
        Kind::Growing | Kind::WarmingUp => {
            let reason = row.verdict.as_deref().and_then(verdicts::line);
            let parts: Vec<String> = leaks::holders(&row.held_by).into_iter().chain(reason).collect();
            Some(parts.join("; ")).filter(|text| !text.is_empty())
        }
        Kind::TooEarly | Kind::Steady | Kind::StartUp => None,
    }
}
