//! What the kernel said, three lines for each event.

use std::io::{self, Write};

use super::slow_setting;
use crate::profile::{
    machine::{Constraint, KernelEvent, OomKill, Triage},
    units::{format_age, format_bytes, format_number},
};
use crate::report::escape::short;

/// The latest events, and settings that make reports slow.
pub(super) fn write(out: &mut dyn Write, triage: &Triage, shown: usize) -> io::Result<()> {
    let log = &triage.log;
    let hidden = log.events.len().saturating_sub(shown);
    let earlier = log.left_out.saturating_add(hidden as u64);
    if !log.events.is_empty() {
        let before = match earlier {
            0 => String::new(),
            count => format!(" ({} earlier)", format_number(count)),
        };
        let cut = if log.is_cut { "; the log's beginning is gone" } else { "" };
        writeln!(out, "\nThe kernel said{before}{cut}:")?;
    }
    for event in log.events.iter().skip(hidden) {
        let ago = format_age(triage.now.at.saturating_sub(event.at()));
        let [first, second, third] = lines(event, &ago);
        writeln!(out, "  {first}\n    {second}\n    {third}")?;
    }
    if !log.slow.is_empty() {
        writeln!(out, "\nSettings that make an OOM report slow:")?;
    }
    log.slow.iter().try_for_each(|setting| writeln!(out, "  {}", slow_setting(setting)))
}

/// An event in three lines.
fn lines(event: &KernelEvent, ago: &str) -> [String; 3] {
    match event {
        KernelEvent::Kill(kill) => kill_lines(kill, ago),
        KernelEvent::Failure { comm, order, mode, free, .. } => {
            let asked = match order {
                Some(order) => format!("{} in one piece", format_bytes(size(*order))),
                None => "an area of vmalloc".to_owned(),
            };
            let free = free.map_or_else(
                || "how much was free then is not in the log".to_owned(),
                |free| format!("{} were free then, but not where or not in such pieces", format_bytes(free)),
            );
            [
                format!("{ago} ago an allocation failed: {} asked for {asked}", short(comm)),
                format!("flags: {}", short(mode)),
                free,
            ]
        }
    }
}

fn size(order: u32) -> u64 {
    4096_u64.checked_shl(order).unwrap_or(u64::MAX)
}

fn kill_lines(kill: &OomKill, ago: &str) -> [String; 3] {
    let asked = match kill.asked_by.as_str() {
        "" => "someone".to_owned(),
        comm => short(comm),
    };
    let limit = kill.limit.map(|bytes| format!(" of {}", format_bytes(bytes))).unwrap_or_default();
    let ran_out = match &kill.constraint {
        Constraint::Machine => "the machine had no memory left".to_owned(),
        Constraint::Cgroup(path) => format!("cgroup {} was at its limit{limit}", short(path)),
        Constraint::Nodes => "the nodes that it may use had no memory left".to_owned(),
    };
    let killed = &kill.killed;
    let first = format!("{ago} ago {asked} asked for {}: {ran_out}", format_bytes(size(kill.order)));
    let second = format!(
        "{} (pid {}) was killed: RSS {}, anonymous {}, shared {}, page tables {}",
        short(&killed.comm),
        killed.pid,
        format_bytes(killed.rss()),
        format_bytes(killed.anon),
        format_bytes(killed.shmem),
        format_bytes(killed.page_tables)
    );
    let largest = match &kill.largest {
        Some(largest) if largest.pid == killed.pid => "it was the largest process".to_owned(),
        Some(largest) => format!(
            "the largest process was {} (pid {}), RSS {}",
            short(&largest.comm),
            largest.pid,
            format_bytes(largest.rss())
        ),
        None => "the log does not list processes (vm.oom_dump_tasks=0)".to_owned(),
    };
    let slab = kill.slab.map(|(given, kept)| {
        format!(
            "; slab {}, {} of it not given back",
            format_bytes(given.saturating_add(kept)),
            format_bytes(kept)
        )
    });
    let shmem = kill.shmem.map(|bytes| format!("; shared memory and tmpfs {}", format_bytes(bytes)));
    [first, second, format!("{largest}{}{}", slab.unwrap_or_default(), shmem.unwrap_or_default())]
}
