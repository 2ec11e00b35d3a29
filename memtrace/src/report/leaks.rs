//! Leak checks in words.

use crate::profile::units::{format_age, format_bytes, format_count, format_number};
use crate::profile::{LeakCheck, Leaked, Moment};

/// What a check found, as a line below the amounts of a report.
pub(super) fn check(check: &LeakCheck) -> String {
    let lost = check.reached.lost();
    let how = match check.moment {
        Moment::Running => format!("{} while it ran", format_count(check.scans.into(), "scan")),
        Moment::Stopped => "one scan, while it was stopped".to_owned(),
        Moment::AtExit => "one scan at its end".to_owned(),
    };
    let cost = format!("{how}, {} read in {}", format_bytes(check.read), format_age(check.took));
    if lost.blocks == 0 {
        return format!(
            "Leak check: nothing is lost, of {} checked ({cost})",
            format_count(check.reached.all().blocks, "block")
        );
    }
    format!(
        "Leak check: LOST {} in {} of {} checked: nothing in the process leads to them ({cost})",
        format_bytes(lost.bytes),
        format_number(lost.blocks),
        format_count(check.reached.all().blocks, "block")
    )
}

/// What a check found among the blocks of a stack, as a line of its row; `None` if nothing is lost.
pub(super) fn row(leaked: &Leaked, check: Option<&LeakCheck>) -> Option<String> {
    let Leaked { checked, lost, indirectly } = leaked;
    if lost.blocks == 0 {
        return None;
    }
    let scans = match check {
        Some(LeakCheck { moment: Moment::Running, scans, .. }) => match scans {
            3 => " (three scans)".to_owned(),
            scans => format!(" ({})", format_count((*scans).into(), "scan")),
        },
        Some(LeakCheck { moment: Moment::Stopped, .. }) => " (one scan, stopped)".to_owned(),
        Some(LeakCheck { moment: Moment::AtExit, .. }) => " (at exit)".to_owned(),
        None => String::new(),
    };
    let of = if lost.blocks == *checked && *checked == 1 {
        "the block".to_owned()
    } else if lost.blocks == *checked {
        format!("any of the {}", format_count(*checked, "block"))
    } else {
        format!("{} of {}", format_number(lost.blocks), format_count(*checked, "block"))
    };
    let through = if indirectly.blocks == lost.blocks {
        ", except other lost blocks".to_owned()
    } else if indirectly.blocks > 0 {
        format!(", {} of them only from other lost blocks", format_number(indirectly.blocks))
    } else {
        String::new()
    };
    Some(format!("LOST {}: nothing in the process points to {of}{through}{scans}", format_bytes(lost.bytes)))
}
