//! The lines above the rows: what is traced, what that means, and how it moved.

use ratatui::{
    style::{Color, Modifier, Style},
    text::Line,
};

use super::{BOLD, DIM, PLAIN, State, WARNING, cut, line, span, wrapped};
use crate::profile::units::format_age;
use crate::profile::{Balance, Standing, View};
use crate::report::{balance, estimates, header};

/// Processes that have a line of their own.
const PROCESSES: usize = 4;
/// Bars of two figures share a line of at least this width.
const TOGETHER: usize = 60;

/// The lines, most important first, `most` of them at most.
pub(super) fn lines(view: &View<'_>, state: &State, width: usize, most: usize) -> Vec<Line<'static>> {
    let mut lines = vec![title(view, state, width)];
    lines.extend(standings(view, width));
    if let Some(span) = header::span(view.profile()) {
        lines.extend(wrapped(&span, width, 2, WARNING));
    }
    lines.extend(bars(state, width));
    lines.truncate(most.max(1));
    lines
}

/// What is traced, and how; at the right, what the user has to know of the picture.
fn title(view: &View<'_>, state: &State, width: usize) -> Line<'static> {
    let profile = view.profile();
    let flag = match (state.frozen, state.ended) {
        (true, _) => " FROZEN ",
        (_, true) => " EXITED ",
        _ => "",
    };
    let room = width.saturating_sub(flag.len());
    let Some(of) = profile.processes() else { return line("memtrace top", BOLD) };
    let who = cut(&header::target(profile), room);
    let cost = of.overhead.as_ref().map(|cost| format!("; {}", estimates::cost_in_short(cost)));
    let how = format!(
        ", {}; {}{}",
        format_age(profile.elapsed),
        estimates::counted(&of.mode, header::sizes(&profile.filter)),
        cost.unwrap_or_default()
    );
    let how = cut(&how, room.saturating_sub(textwrap::core::display_width(&who)));
    let used = textwrap::core::display_width(&who) + textwrap::core::display_width(&how);
    Line::from(vec![
        span(&who, BOLD),
        span(&how, PLAIN),
        span(&" ".repeat(room.saturating_sub(used)), PLAIN),
        span(flag, WARNING.add_modifier(Modifier::REVERSED)),
    ])
}

/// What each process does: a verdict in a sentence, and the figures behind it. Of several, those that grew most.
fn standings(view: &View<'_>, width: usize) -> Vec<Line<'static>> {
    let Some(of) = view.profile().processes() else { return Vec::new() };
    let mut balances: Vec<&Balance> = of.balances.iter().collect();
    balances.sort_by(|a, b| b.grown.total.total_cmp(&a.grown.total));
    if let [balance] = balances.as_slice() {
        let mut lines = wrapped(&balance::sentence(view, balance), width, 3, style(balance.standing));
        lines.extend(wrapped(&balance::figures(balance), width, 2, PLAIN));
        return lines;
    }
    let more = balances.len().saturating_sub(PROCESSES);
    let each = balances.into_iter().take(PROCESSES).map(|balance| {
        let rss = crate::profile::units::format_bytes(balance.resident.rss());
        let name = balance::name(of, balance);
        let text = format!("{name}: RSS {rss}; {}", balance::sentence(view, balance));
        line(&cut(&text, width), style(balance.standing))
    });
    let mut lines: Vec<Line<'static>> = each.collect();
    if more > 0 {
        lines.push(line(&format!("… and {more} more processes, which grew less"), DIM));
    }
    lines
}

fn style(standing: Standing) -> Style {
    let style = Style::new().add_modifier(Modifier::BOLD);
    match standing {
        Standing::Leak => style.fg(Color::Red),
        Standing::NoLeak => style.fg(Color::Green),
        Standing::TooEarly => style.fg(Color::Cyan),
        Standing::KeptByAllocator
        | Standing::Mappings
        | Standing::Threads
        | Standing::SharedMemory
        | Standing::Unseen => style.fg(Color::Yellow),
    }
}

/// How the resident set and the blocks moved.
fn bars(state: &State, width: usize) -> Vec<Line<'static>> {
    let style = Style::new().fg(Color::Blue);
    if width < TOGETHER {
        return vec![line(&state.history.rss(width), style), line(&state.history.blocks(width), style)];
    }
    let half = width / 2 - 1;
    if state.history.is_empty() {
        return Vec::new();
    }
    let (rss, blocks) = (state.history.rss(half), state.history.blocks(half));
    vec![line(&format!("{rss:<half$}  {blocks}"), style)]
}
