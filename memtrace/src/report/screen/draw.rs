//! The picture.

use ratatui::{buffer::Buffer, text::Line};

use super::{
    BOLD, DIM, PLAIN, State, WARNING, cut, detail, head, line, list,
    state::{Input, Page},
};
use crate::profile::View;
use crate::profile::units::{format_bytes, format_count};
use crate::report::header::UNKNOWN;

/// Lines below the rows.
const FOOT: usize = 2;
/// Screens with fewer lines have no line of figures below the rows.
const LOW: usize = 8;

/// Draws a view of a report; without one, that it is awaited.
pub(super) fn draw(buffer: &mut Buffer, view: Option<&View<'_>>, state: &mut State) {
    let (width, height) = (usize::from(buffer.area.width), usize::from(buffer.area.height));
    let foot = if height < LOW { 1 } else { FOOT };
    let body = height.saturating_sub(foot);
    let mut lines = match view {
        Some(view) => body_of(view, state, width, body),
        None => vec![line("The first report is being made …", BOLD)],
    };
    lines.truncate(body);
    lines.resize(body, Line::default());
    if foot == FOOT {
        lines.push(status(view, state, width));
    }
    lines.push(keys(state, width));
    for (y, line) in lines.iter().take(height).enumerate() {
        buffer.set_line(buffer.area.x, buffer.area.y + y as u16, line, buffer.area.width);
    }
}

fn body_of(view: &View<'_>, state: &mut State, width: usize, body: usize) -> Vec<Line<'static>> {
    // The rows get at least half of a small screen.
    let mut lines = head::lines(view, state, width, body / 2);
    let room = body.saturating_sub(lines.len() + 1);
    let entries = view.entries();
    let page = match state.page {
        Page::Rows => None,
        Page::Help => Some(("Keys".to_owned(), detail::help())),
        Page::Notes => Some(("Notes".to_owned(), detail::notes(view, width))),
        Page::Row(key) => match entries.iter().position(|entry| list::key(entry) == key) {
            Some(place) => entries.get(place).map(|entry| {
                (
                    format!("Row {} of {}", place + 1, entries.len()),
                    detail::row(view, entry, place + 1, state, width),
                )
            }),
            None => {
                Some(("This row holds nothing any more, or is not among those shown".to_owned(), Vec::new()))
            }
        },
    };
    match page {
        None => {
            lines.push(list::heading(view, state, width));
            let rows = list::lines(view, &entries, state, width, room);
            if rows.is_empty() {
                lines.push(line(&cut(nothing(view), width), DIM));
            }
            lines.extend(rows);
        }
        Some((title, page)) => {
            state.scroll = state.scroll.min(page.len().saturating_sub(room));
            state.below = page.len().saturating_sub(state.scroll + room);
            let more =
                if state.below > 0 { format!(" ({} more lines below)", state.below) } else { String::new() };
            lines.push(heading(&format!("{title}{more}"), width));
            lines.extend(page.into_iter().skip(state.scroll).take(room));
        }
    }
    lines
}

fn heading(title: &str, width: usize) -> Line<'static> {
    let style = BOLD.add_modifier(ratatui::style::Modifier::REVERSED);
    line(&format!("{:<width$}", cut(title, width)), style)
}

/// Why there is no row.
fn nothing(view: &View<'_>) -> &'static str {
    if view.profile().marks.is_unknown() {
        "What was allocated since the mark was not looked at yet."
    } else if view.selection().filters() || view.profile().is_limited() {
        "No outstanding block passes the filter; others may exist."
    } else {
        "Nothing allocated since tracing began is outstanding so far."
    }
}

/// What the rows leave out, and what else there is to see.
fn status(view: Option<&View<'_>>, state: &State, width: usize) -> Line<'static> {
    let Some(view) = view else { return Line::default() };
    let profile = view.profile();
    let stacks = format_count(view.rows_found() as u64, "stack");
    let outstanding = match profile.marks.is_unknown() {
        true => UNKNOWN.to_owned(),
        false => format!("{} in {stacks}", format_bytes(profile.outstanding.bytes)),
    };
    let mut parts = vec![outstanding];
    let below = state.rows.len().saturating_sub(state.scroll + state.room);
    if state.page == Page::Rows && below > 0 {
        parts.push(format!("{} below", format_count(below as u64, "row")));
    }
    if let Some(text) = &state.selection.containing {
        parts.push(format!("filter: {text} (Esc: off)"));
    }
    match detail::notes_found(view) {
        0 => {}
        notes => parts.push(format!("{} (n)", format_count(notes as u64, "note"))),
    }
    let has_losses = !crate::report::losses::of(profile).is_empty();
    line(&cut(&parts.join(" · "), width), if has_losses { WARNING } else { DIM })
}

/// What the user types, what became of the last key, or the keys.
fn keys(state: &State, width: usize) -> Line<'static> {
    match (&state.input, &state.message) {
        (Some(Input::Filter(text)), _) => line(&end(&format!("Show rows with: {text}_"), width), BOLD),
        (Some(Input::Save(text)), _) => line(&end(&format!("Save to file: {text}_"), width), BOLD),
        (None, Some(message)) => line(&cut(message, width), BOLD),
        (None, None) => line(&known_keys(width), PLAIN),
    }
}

/// The keys that matter most first.
const KEYS: [(&str, &str); 10] = [
    ("q", "quit"),
    ("?", "help"),
    ("Enter", "open"),
    ("s", "sort"),
    ("/", "filter"),
    ("Space", "freeze"),
    ("m", "mark"),
    ("t", "span"),
    ("w", "save"),
    ("c", "scan"),
];

/// As many keys as there is room for.
fn known_keys(width: usize) -> String {
    let joined = |between: &str, keys: &[(&str, &str)]| {
        let words = keys.iter().map(|(key, what)| format!("{key}{between}{what}"));
        words.collect::<Vec<_>>().join(if between == " " { "  " } else { " " })
    };
    let wide = joined(" ", &KEYS);
    if wide.len() <= width {
        return wide;
    }
    let counts = (1..=KEYS.len()).rev();
    let narrow = counts.map(|count| joined(":", KEYS.get(..count).unwrap_or_default()));
    narrow.into_iter().find(|text| text.len() <= width).unwrap_or_default()
}

/// The end of a text.
fn end(text: &str, width: usize) -> String {
    let length = text.chars().count();
    text.chars().skip(length.saturating_sub(width)).collect()
}
