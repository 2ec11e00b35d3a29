//! Leak checks in words.

use super::{escape::short, following};
use crate::profile::units::{format_age, format_bytes, format_count, format_number, format_percent};
use crate::profile::{
    Amount, Before, Holder, LeakCheck, Leaked, Moment, Processes, Profile, Reached, Remark, Root,
};

/// The five lines that valgrind's memcheck ends with, in its words, below whom they are about.
pub(super) fn summary(check: &LeakCheck, profile: &Profile) -> String {
    let Reached { reachable, possibly, directly, indirectly, suppressed } = check.reached;
    let lines = [
        ("definitely lost", directly),
        ("indirectly lost", indirectly),
        ("possibly lost", possibly),
        ("still reachable", reachable),
        ("suppressed", suppressed),
    ];
    let line = |(what, amount): (&str, Amount)| {
        format!(
            "\n{what:>18}: {} bytes in {} blocks",
            format_number(amount.bytes),
            format_number(amount.blocks)
        )
    };
    let skipped = match check.skipped {
        0 => String::new(),
        bytes => format!("\n  {} could not be read: pointers in it are unknown", format_bytes(bytes)),
    };
    let who = summarized(check, profile).map(|who| format!(" of {who}")).unwrap_or_default();
    format!("LEAK SUMMARY{who}:{}{skipped}", lines.into_iter().map(line).collect::<String>())
}

/// The one process that was checked, and how many that it started were not.
fn summarized(check: &LeakCheck, profile: &Profile) -> Option<String> {
    let pid = check.pid?;
    let process = profile.process(pid)?;
    let others = profile.remarks.iter().find_map(|remark| match remark {
        Remark::CheckedAlone { pid: alone, others } if *alone == pid => Some(following::unchecked(*others)),
        _ => None,
    });
    let others = others.map(|others| format!(" alone ({others})")).unwrap_or_default();
    Some(format!("{} (pid {pid}){others}", short(&process.comm)))
}

/// Who holds most of a stack's blocks, as a line of its row; `None` if that is not known.
pub(super) fn holders(holders: &[Holder]) -> Option<String> {
    let first = holders.first()?;
    let one = |holder: &Holder| {
        let Holder { root, steps, share, .. } = holder;
        format!(
            "{}, {}, {} of {}",
            self::root(root),
            format_count((*steps).into(), "step"),
            format_percent(*share),
            format_count(first.looked_at.into(), "block")
        )
    };
    let all: Vec<String> = holders.iter().map(one).collect();
    Some(format!("held by {} looked at", all.join("; ")))
}

/// Where a way to a block begins, in words.
pub(super) fn root(root: &Root) -> String {
    let thread = |tid: u32, name: &str| match name {
        "" => format!("thread {tid}"),
        name => format!("thread {tid} `{}`", short(name)),
    };
    match root {
        Root::Data { symbol: Some(symbol), module, .. } => format!("{} ({})", short(symbol), file(module)),
        Root::Data { section: Some(section), module, .. } => {
            format!("data of {} ({})", file(module), short(section))
        }
        Root::Data { module, .. } => format!("data of {}", file(module)),
        Root::Stack { tid, thread: name, .. } => format!("the stack of {}", thread(*tid, name)),
        Root::Tls { tid, thread: name, symbol: Some(symbol), .. } => {
            format!("{} (thread-local, {})", short(symbol), thread(*tid, name))
        }
        Root::Tls { tid, thread: name, .. } => format!("thread-local memory of {}", thread(*tid, name)),
        Root::Register { tid, thread: name } => format!("a register of {}", thread(*tid, name)),
        Root::Epoll => "the kernel (epoll)".to_owned(),
        Root::Timer => "the kernel (a timer)".to_owned(),
        Root::Heap => "memory that was not traced".to_owned(),
        Root::Mapping { name } => format!("the mapping {}", short(name)),
    }
}

/// The name of a file, without its directories.
fn file(path: &str) -> String {
    short(path.rsplit('/').next().unwrap_or(path))
}

/// How a check was made, and what it has cost.
pub(super) fn cost(check: &LeakCheck) -> String {
    let how = match check.moment {
        Moment::Running => format!("{} while it ran", format_count(check.scans.into(), "scan")),
        Moment::Stopped => "one scan, while it was stopped".to_owned(),
        Moment::AtExit => "one scan at its end".to_owned(),
    };
    format!("{how}, {} read in {}", format_bytes(check.read), format_age(check.took))
}

/// What a check of these processes found, as a line below the amounts of a report; `None` if there was none.
pub(super) fn checked(of: &Processes) -> Option<String> {
    // Blocks from before a gap may have been freed in it: nothing is said of them.
    Some(check(of.leak_check.as_deref()?, of.mode.attached.gaps > 0))
}

fn check(check: &LeakCheck, has_gaps: bool) -> String {
    let lost = check.reached.lost();
    let cost = cost(check);
    let all = check.reached.all().plus(check.reached.suppressed);
    let checked = match check.undecided {
        0 => format!("{} checked", format_count(all.blocks, "block")),
        others => {
            let (checked, others) = (format_count(all.blocks, "block"), format_number(others));
            match has_gaps {
                true => {
                    format!("{checked} checked ({others} others are younger or from before a gap in tracing)")
                }
                false => format!("{checked} checked, {others} not yet"),
            }
        }
    };
    if lost.blocks == 0 {
        let besides = if check.reached.suppressed.blocks > 0 { "nothing else" } else { "nothing" };
        return format!("Leak check: {besides} is lost, of {checked} ({cost})");
    }
    format!(
        "Leak check: LOST {} in {} of {checked}: nothing in the process leads to them ({cost})",
        format_bytes(lost.bytes),
        format_number(lost.blocks),
    )
}

/// What a check found among blocks from before tracing began, as a line; `None` if nothing is lost. `likely`: who loses blocks
/// of a size now.
pub(super) fn before(check: &LeakCheck, likely: impl Fn(u64) -> Option<String>) -> Option<String> {
    let Before { checked, lost, sizes } = check.before.filter(|before| before.lost.blocks > 0)?;
    let sizes = sizes.into_iter().filter(|(_, blocks)| *blocks > 0).map(|(size, blocks)| {
        let likely = likely(size).map(|name| format!(", the size that {name} loses now"));
        format!("{} x {} B{}", format_number(blocks), format_number(size), likely.unwrap_or_default())
    });
    let sizes: Vec<String> = sizes.collect();
    Some(format!(
        "From before tracing began: LOST {} in {} of {}: {} (memtrace scan shows more)",
        format_bytes(lost.bytes),
        format_number(lost.blocks),
        format_count(checked, "block"),
        sizes.join("; ")
    ))
}

/// What a check found among the blocks of a stack, as a line of its row; `None` if nothing is lost.
pub(super) fn row(leaked: &Leaked, check: Option<&LeakCheck>) -> Option<String> {
    let Leaked { checked, lost, indirectly, through, .. } = leaked;
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
    let more = match through {
        0 => String::new(),
        bytes => format!(", leading to {} of lost blocks here or in other stacks", format_bytes(*bytes)),
    };
    let direct = lost.minus(*indirectly).blocks;
    let who = match (direct, indirectly.blocks) {
        (0, _) => format!("only lost blocks point to {}", of(lost.blocks, *checked)),
        (_, 0) => format!("nothing in the process points to {}", of(lost.blocks, *checked)),
        (_, others) => format!(
            "nothing in the process points to {}, and only lost blocks to {} more",
            of(direct, *checked),
            format_number(others)
        ),
    };
    Some(format!("LOST {}{more}: {who}{scans}", format_bytes(lost.bytes)))
}

/// How many blocks of a stack only a pointer to the middle of a block leads to, as a line of its row; `None`: none.
pub(super) fn possibly(leaked: &Leaked) -> Option<String> {
    let Leaked { checked, possibly: Amount { bytes, blocks }, .. } = *leaked;
    let them = match blocks {
        0 => return None,
        1 => "it",
        _ => "them",
    };
    Some(format!(
        "{} of {} possibly lost ({}): only a pointer to the middle of a block leads to {them}",
        format_number(blocks),
        format_count(checked, "block"),
        format_bytes(bytes)
    ))
}

/// So many of all, in words.
fn of(blocks: u64, all: u64) -> String {
    if blocks == all && all == 1 {
        "the block".to_owned()
    } else if blocks == all {
        format!("any of the {}", format_count(all, "block"))
    } else {
        format!("{} of {}", format_number(blocks), format_count(all, "block"))
    }
}
