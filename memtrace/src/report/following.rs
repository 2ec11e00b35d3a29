//! Processes that come and go, in words.

use crate::profile::units::format_number;

/// Pids that are listed.
const SHOWN: usize = 8;

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
    let mut parts = vec![format!(
        "{} followed: what they allocated before memtrace found them is unknown",
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
