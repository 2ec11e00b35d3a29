//! The header of a report's text: what is traced, and how.

use std::time::Duration;

use super::{escape, estimates, kernel};
use crate::profile::units::{format_age, format_bytes, format_percent};
use crate::profile::{Filter, Mark, Processes, Profile, Since, StackMethod, Subject};

/// Process ids listed in the header; of further ones, only the number is given.
const PIDS_SHOWN: usize = 8;

/// That nothing is known of a span that has just begun.
pub(super) const UNKNOWN: &str = "not looked at yet";

/// A look at the blocks of at least this age is worth a word.
const STALE: Duration = Duration::from_secs(1);

/// Allocations seen for less of a span than this are worth a word.
const WATCHED: f64 = 0.99;

/// What the report is about.
pub(super) fn target(profile: &Profile) -> String {
    if let Some(of) = profile.kernel() {
        return kernel::target(of);
    }
    let processes: Vec<_> = profile.targets().collect();
    let pids = processes.iter().take(PIDS_SHOWN);
    let shown = pids.map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ");
    let noun = if processes.len() == 1 { "pid" } else { "pids" };
    let more = match processes.len().saturating_sub(PIDS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let comm = processes.first().map_or("", |process| process.comm.as_str());
    format!("{} ({noun} {shown}{more})", escape(comm))
}

/// For how long it was traced.
pub(super) fn traced(profile: &Profile) -> String {
    match profile.heaps() {
        Some(_) => "scanned without probes".to_owned(),
        None => format!("traced for {}", format_age(profile.elapsed)),
    }
}

/// How its figures came about.
pub(super) fn how(profile: &Profile) -> String {
    match &profile.subject {
        Subject::Processes(of) => format!("{}; {}", allocators(of), method(profile, of)),
        Subject::Kernel(_) => kernel::method(sizes(&profile.filter), shown(profile)),
        Subject::Heaps(_) => {
            "blocks in use by the records of the allocator, sizes as it rounds them".to_owned()
        }
    }
}

fn allocators(of: &Processes) -> String {
    match of.allocators.len() {
        0 => "no allocator found".to_owned(),
        1 => format!("allocator {}", escape(&of.allocators.join(", "))),
        _ => format!("allocators {}", escape(&of.allocators.join(", "))),
    }
}

fn method(profile: &Profile, of: &Processes) -> String {
    let mode = &of.mode;
    let untraced = match of.untraced.as_slice() {
        [] if mode.leaves_code_out() => "NOT EVERYTHING IS TRACED (see the notes); otherwise ".to_owned(),
        [] => String::new(),
        functions => format!("NOT TRACED: {}; otherwise ", escape(&functions.join("; "))),
    };
    let count = estimates::counted(mode, sizes(&profile.filter));
    let stacks = match mode.stacks {
        StackMethod::Cfi => "",
        StackMethod::FramePointer => {
            ", stacks from frame pointers (callers may be missing where code was built without them)"
        }
    };
    format!("{untraced}{count}{}{stacks}", shown(profile))
}

/// Filters by age and by marks in words.
fn shown(profile: &Profile) -> String {
    let older = profile.filter.older.filter(|age| !age.is_zero());
    let older = older.map(|age| format!(", only blocks older than {} shown", format_age(age)));
    format!(
        "{}{}",
        older.unwrap_or_default(),
        span(profile).map(|span| format!(", {span}")).unwrap_or_default()
    )
}

/// The span that a report is limited to, or the last mark.
pub(super) fn span(profile: &Profile) -> Option<String> {
    let marks = &profile.marks;
    let ago = |mark: &Mark| format_age(profile.elapsed.saturating_sub(mark.at));
    let Some(span) = marks.span() else {
        return match marks.last.last() {
            Some(last) => Some(format!("mark {} {} ago", last.number, ago(last))),
            None => (marks.since != Since::Start).then(|| "no mark yet, so everything".to_owned()),
        };
    };
    let seen = match marks.seen(&span, profile.elapsed) {
        seen if seen < WATCHED => format!(" (allocations were seen {} of that time)", format_percent(seen)),
        _ => String::new(),
    };
    let age = marks.looked.map(|looked| profile.elapsed.saturating_sub(looked));
    let looked = match age.filter(|age| *age >= STALE) {
        _ if marks.is_unknown() => format!(", {UNKNOWN}"),
        Some(age) => format!(", as of {} ago", format_age(age)),
        None => String::new(),
    };
    let seen = format!("{seen}{looked}");
    let from = span.from.number;
    Some(match (span.to, marks.since) {
        (Some(to), _) => format!(
            "ONLY WHAT WAS ALLOCATED BETWEEN MARK {from} AND MARK {} ({} and {} ago){seen}",
            to.number,
            ago(&span.from),
            ago(&to)
        ),
        (None, Since::BetweenMarks) => format!(
            "ONLY WHAT WAS ALLOCATED SINCE MARK {from} ({} ago), as there is no second mark yet{seen}",
            ago(&span.from)
        ),
        (None, _) => format!("ONLY WHAT WAS ALLOCATED SINCE MARK {from} ({} ago){seen}", ago(&span.from)),
    })
}

/// A size filter in words.
pub(super) fn sizes(filter: &Filter) -> Option<String> {
    match (filter.min_size.map(format_bytes), filter.max_size.map(format_bytes)) {
        (None, None) => None,
        (Some(min), None) => Some(format!("of {min} and more")),
        (None, Some(max)) => Some(format!("of up to {max}")),
        (Some(min), Some(max)) => Some(format!("of {min} to {max}")),
    }
}
