//! Who leaks, and how fast.

use std::time::Duration;

use super::{held, speed};
use crate::profile::units::{format_bytes, format_count, format_percent};
use crate::profile::{Balance, Knowledge, Row, View};
use crate::report::{blame::culprit, escape::short, mappings::shown, stacks};

/// Caches may fill for longer, but fewer do.
const YOUNG: Duration = Duration::from_secs(120);
/// The part of the growth of blocks from which on a stack is named though its verdict does not say that it leaks.
const MOST: f64 = 0.5;
/// Of so many stacks it is found out whether all are of one function.
const ALIKE: u64 = 16;

/// Who leaks: the first of the stacks shown, and how many others there are. If no stack was found guilty yet, that which holds
/// most of the growth, if there is one. If only stacks with some text are shown, the first of them may be the least.
pub(super) fn places(view: &View<'_>, balance: &Balance) -> String {
    let pid = balance.pid;
    let leaks = |row: &&Row| row.judges(pid) && row.is_leaking();
    let found = view.profile().rows.iter().filter(leaks).count() as u64;
    if view.selection().containing.is_some() {
        let places = || format!(" in {}, shown or not", format_count(found, "stack"));
        return if found > 0 { places() } else { String::new() };
    }
    let Some(first) = view.rows().find(leaks) else { return suspect(view, balance) };
    let who = name(view, first);
    let is_it = |row| name(view, row) == who;
    match found {
        0 | 1 => format!(" in {who}"),
        found if found <= ALIKE && view.profile().rows.iter().filter(leaks).all(is_it) => {
            format!(" in {who} ({})", format_count(found, "stack"))
        }
        found => format!(" in {who} and {}", format_count(found - 1, "more stack")),
    }
}

/// Who holds most of what blocks have grown by.
fn suspect(view: &View<'_>, balance: &Balance) -> String {
    let is_open = |row: &&Row| row.judges(balance.pid) && !row.is_settled();
    let open = || view.profile().rows.iter().filter(is_open);
    let all = match balance.knowledge {
        // Windows have seen a part of them.
        Knowledge::AtMost | Knowledge::Measured => open().map(|row| row.outstanding.bytes as f64).sum(),
        Knowledge::Counted | Knowledge::Sampled => balance.grown.blocks,
    };
    let largest = open().max_by_key(|row| row.outstanding.bytes);
    let largest = largest.filter(|row| all > 0.0 && row.outstanding.bytes as f64 >= MOST * all);
    largest.map_or_else(String::new, |row| format!(", perhaps in {}", name(view, row)))
}

/// The function to blame.
fn name(view: &View<'_>, row: &Row) -> String {
    let frames = view.frames(row.stack);
    let Some(frame) = culprit(&frames).and_then(|place| frames.get(place)) else {
        return "code without a name".to_owned();
    };
    frame.function.map_or_else(|| short(&stacks::name(frame)), shown)
}

/// The verdict on a process that lives.
pub(super) fn leak(view: &View<'_>, balance: &Balance) -> String {
    let places = places(view, balance);
    let parts: Vec<String> = lost(balance).into_iter().chain(leaking(balance)).collect();
    // Of a session without a time nothing like that is known.
    let is_young = (Duration::from_nanos(1)..YOUNG).contains(&balance.span);
    let doubt =
        if balance.lost == 0 && is_young { "; a cache that fills looks the same at first" } else { "" };
    // One of the two is doubt enough.
    let likely = if places.starts_with(',') { "" } else { likely(balance) };
    format!("LEAK{places}{likely}: {}{doubt}", parts.join("; "))
}

/// In windows, what outlived them may be freed later.
pub(super) fn likely(balance: &Balance) -> &'static str {
    match balance.knowledge {
        Knowledge::AtMost if balance.lost == 0 && balance.growing.blocks == 0 => ", most likely",
        _ => "",
    }
}

/// What nothing leads to.
pub(super) fn lost(balance: &Balance) -> Option<String> {
    (balance.lost > 0).then(|| format!("nothing points to {} of blocks any more", format_bytes(balance.lost)))
}

/// How fast it leaks, as far as that is known.
fn leaking(balance: &Balance) -> Option<String> {
    let Balance { leaking, rate, knowledge, growing, .. } = *balance;
    let of_growth = |part: f64| {
        let share = part / rate.total;
        let share = (share > 0.0 && rate.total > 0.0).then(|| format_percent(share.min(1.0)));
        share.map(|share| format!(", {share} of the growth")).unwrap_or_default()
    };
    let about = if matches!(knowledge, Knowledge::Counted | Knowledge::Measured) { "" } else { "about " };
    if leaking > 0.0 && rate.total <= 0.0 {
        return Some(format!("its blocks grow by {about}{}, which RSS does not show so far", speed(leaking)));
    }
    if leaking > 0.0 {
        return Some(format!("it grows by {about}{}{}", speed(leaking), of_growth(leaking)));
    }
    if rate.blocks <= 0.0 {
        return (growing.blocks > 0).then(|| format!("{about}{} that stay", held(growing)));
    }
    Some(match knowledge {
        Knowledge::AtMost => format!(
            "memory grows by {}, and what windows saw allocated and not freed accounts for about {} of that",
            speed(rate.total),
            format_percent((rate.blocks / rate.total).clamp(0.0, 1.0))
        ),
        _ => format!("live blocks grow by {about}{}{}", speed(rate.blocks), of_growth(rate.blocks)),
    })
}
