//! Processes that come and go, in words.

use super::escape::short;
use crate::profile::units::format_number;

/// Pids that are listed.
const SHOWN: usize = 8;

/// Processes by pid and command name.
#[must_use]
pub fn listed(processes: &[(u32, &str)]) -> String {
    let shown = processes.iter().take(SHOWN).map(|(pid, comm)| format!("{pid} ({})", short(comm)));
    let more = match processes.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{}{more}", shown.collect::<Vec<_>>().join(", "))
}

/// That only processes live which those that were to be traced have left behind.
#[must_use]
pub fn left_behind(processes: &[(u32, &str)]) -> String {
    let (noun, them) = if processes.len() == 1 { ("process", "it") } else { ("processes", "them") };
    format!(
        "what was to be traced has exited; tracing goes on of {noun} {}, left running by it: Ctrl-C ends tracing with a last \
         report, and leaves {them} running",
        listed(processes)
    )
}

/// That the check at a command's end is of that command only.
pub(super) fn checked_alone(pid: u32, others: u64) -> String {
    format!("the leak check at the end is of the command itself, process {pid}: {}", unchecked(others))
}

/// That so many others were not checked.
pub(super) fn unchecked(others: u64) -> String {
    let (noun, were) = if others == 1 { ("process", "was") } else { ("processes", "were") };
    format!("{} {noun} that it started {were} not checked", format_number(others))
}

/// Processes that have exited.
pub(super) fn exited(pids: &[u32]) -> String {
    let (noun, have) = if pids.len() == 1 { ("process", "has") } else { ("processes", "have") };
    let shown: Vec<String> = pids.iter().take(SHOWN).map(u32::to_string).collect();
    let more = match pids.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{noun} {}{more} {have} exited: blocks not freed by then are still shown", shown.join(", "))
}

/// Processes that descend from targets.
pub(super) fn followed(followed: u64, exited: u64, refused: u64, without_allocator: u64) -> String {
    let plural =
        |number, one, many| format!("{} {}", format_number(number), if number == 1 { one } else { many });
    let (they, them) = if followed == 1 { ("it", "it") } else { ("they", "them") };
    let mut parts = vec![format!(
        "{} followed: what {they} allocated before memtrace found {them} is unknown",
        plural(followed, "process is", "processes are")
    )];
    if exited > 0 {
        parts.push(format!(
            "{} exited, and what they held is no longer shown",
            plural(exited, "of them has", "of them have")
        ));
    }
    if refused > 0 {
        parts.push(format!("{refused} cannot be followed: there is no more room, or they cannot be traced"));
    }
    if without_allocator > 0 {
        parts.push(plural(
            without_allocator,
            "has no allocator that memtrace knows",
            "have no allocator that memtrace knows",
        ));
    }
    parts.join("; ")
}
