//! The header of a report's text: what is traced, and how.

use super::{escape, estimates};
use crate::profile::units::{format_age, format_bytes};
use crate::profile::{Filter, Processes, Profile, StackMethod};

/// Process ids listed in the header; of further ones, only the number is given.
const PIDS_SHOWN: usize = 8;

pub(super) fn processes(of: &Processes) -> String {
    let pids = of.processes.iter().take(PIDS_SHOWN);
    let shown = pids.map(|process| process.pid.to_string()).collect::<Vec<_>>().join(", ");
    let noun = if of.processes.len() == 1 { "pid" } else { "pids" };
    let more = match of.processes.len().saturating_sub(PIDS_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let comm = of.processes.first().map_or("", |process| process.comm.as_str());
    format!("{} ({noun} {shown}{more})", escape(comm))
}

pub(super) fn allocators(of: &Processes) -> String {
    match of.allocators.len() {
        0 => "no allocator found".to_owned(),
        1 => format!("allocator {}", escape(&of.allocators.join(", "))),
        _ => format!("allocators {}", escape(&of.allocators.join(", "))),
    }
}

pub(super) fn method(profile: &Profile, of: &Processes) -> String {
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
    format!("{untraced}{count}{}{stacks}", older(&profile.filter))
}

/// A filter by age in words.
pub(super) fn older(filter: &Filter) -> String {
    let older = filter.older.filter(|age| !age.is_zero());
    older.map(|age| format!(", only blocks older than {} shown", format_age(age))).unwrap_or_default()
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
