//! The balance of processes in words: one line of figures, and one sentence of verdict, each.

mod cures;
mod ended;
mod leaks;
mod unseen;

use std::time::Duration;

use self::{
    leaks::leak,
    unseen::{page_tables, unseen},
};
use super::escape;
use super::escape::short;
use super::mappings::{creator, grower};
use crate::profile::units::{format_age, format_bytes, format_count, format_number, format_rate};
use crate::profile::{
    Amount, Balance, Course, Knowledge, Limit, LimitKind, MappingUse, Parts, Processes, Standing, View,
};

/// Less is not worth to be called flat.
const FLAT: Duration = Duration::from_secs(3);
/// Forecasts further ahead are not worth a word.
const AHEAD: Duration = Duration::from_secs(7 * 86_400);
/// Children that are named.
const NAMED: usize = 4;
/// Of more processes, those that grew most have lines of their own.
const SHOWN: usize = 4;
/// A process that leaks blocks grows by mappings too from this part of its growth on.
const MAPPED_PART: f64 = 0.1;
/// Growth of page tables and of children that is worth a word, bytes.
const WORTH: i64 = 1 << 20;

/// The same for shared memory of a cgroup, which others use too.
const SHARED: i64 = 4 << 20;

/// The lines of all processes, two each.
pub(super) fn lines(view: &View<'_>) -> Vec<String> {
    let Some(of) = view.profile().processes() else { return Vec::new() };
    let several = of.balances.len().max(of.processes.len()) > 1;
    let chosen = |balance: &&Balance| view.selection().pid.is_none_or(|pid| pid == balance.pid);
    let mut balances: Vec<&Balance> = of.balances.iter().filter(chosen).collect();
    let mut rest = Vec::new();
    if balances.len() > SHOWN && view.selection().hide_settled {
        balances.sort_by(|a, b| b.grown.total.total_cmp(&a.grown.total));
        rest = balances.split_off(SHOWN);
    }
    let lines = balances.into_iter().flat_map(|balance| {
        let prefix = if several { format!("Process {}: ", name(of, balance)) } else { String::new() };
        [format!("{prefix}{}", figures(balance)), format!("{prefix}{}", sentence(view, balance))]
    });
    lines.chain(unweighed(view, of)).chain(others(&rest)).collect()
}

/// Processes whose memory was never looked at, if stacks of them leak: what is said of others is not about them.
fn unweighed(view: &View<'_>, of: &Processes) -> Vec<String> {
    let is_known = |pid| of.balances.iter().any(|balance| balance.pid == pid);
    let is_chosen = |pid| view.selection().pid.is_none_or(|chosen| chosen == pid);
    let unknown = of.processes.iter().filter(|process| !is_known(process.pid) && is_chosen(process.pid));
    let lines = unknown.flat_map(|process| {
        let rows = view.profile().rows.iter().filter(|row| row.judges(process.pid) && row.is_leaking());
        let growing = rows.fold(Amount::default(), |sum, row| sum.plus(row.outstanding));
        let balance = Balance { pid: process.pid, growing, standing: Standing::Leak, ..Balance::default() };
        let prefix = format!("Process {}: ", name(of, &balance));
        let lines =
            [format!("{prefix}RSS was not looked at"), format!("{prefix}{}", sentence(view, &balance))];
        if growing.blocks > 0 { lines.to_vec() } else { Vec::new() }
    });
    lines.collect()
}

/// A process by its pid, its command name, and whether it has exited.
pub(super) fn name(of: &Processes, balance: &Balance) -> String {
    let process = of.processes.iter().find(|process| process.pid == balance.pid);
    let comm = process.map(|process| short(&process.comm)).filter(|comm| !comm.is_empty());
    let exited = balance.ended.map(|_| "exited".to_owned());
    match comm.into_iter().chain(exited).collect::<Vec<_>>().join(", ") {
        known if known.is_empty() => balance.pid.to_string(),
        known => format!("{} ({known})", balance.pid),
    }
}

/// The sum of further processes.
fn others(rest: &[&Balance]) -> Option<String> {
    let rss = rest.iter().map(|balance| balance.resident.rss()).sum();
    let grown: f64 = rest.iter().map(|balance| balance.grown.total).sum();
    let processes = match rest.len() {
        1 => "1 more process".to_owned(),
        more => format!("{} more processes", format_number(more as u64)),
    };
    (!rest.is_empty()).then(|| {
        format!(
            "… and {processes}: RSS {}, grown by {} (--all shows them)",
            format_bytes(rss),
            signed_bytes(grown)
        )
    })
}

/// `RSS 1.91 GiB +2.2 MiB/s = blocks +2.1, mapped 0, …`. Without growth of late, what it has grown by in all.
pub(super) fn figures(balance: &Balance) -> String {
    let swap = match balance.resident.swap {
        0 => String::new(),
        bytes => format!(" and {} swapped out", format_bytes(bytes)),
    };
    let rss = format!("RSS {}{swap}", format_bytes(balance.resident.rss()));
    let in_windows = balance.knowledge == Knowledge::AtMost;
    if balance.ended.is_some() {
        if balance.span == Duration::ZERO {
            return format!("{rss} before its end; sampled only once, so its growth is unknown");
        }
        let grown = signed_bytes(balance.grown.total);
        return format!(
            "{rss} before its end; since the start {grown} = {}",
            parts(&balance.grown, in_windows)
        );
    }
    if balance.rate.total == 0.0 && balance.lacks > Duration::ZERO {
        return format!("{rss}, too early for its growth");
    }
    if balance.rate.total == 0.0 && balance.grown.total.abs() >= WORTH as f64 {
        let grown = signed_bytes(balance.grown.total);
        return format!("{rss} 0 B/s; since the start {grown} = {}", parts(&balance.grown, in_windows));
    }
    format!("{rss} {} = {}", format_rate(balance.rate.total), parts(&balance.rate, in_windows))
}

/// The parts in the unit of the largest. Windows show a part of the time, which stands for all of it.
fn parts(parts: &Parts, in_windows: bool) -> String {
    let Parts { total, blocks, mapped, stacks, kept, shared, unexplained } = *parts;
    let all = [total, blocks, mapped, stacks, kept, shared, unexplained];
    let largest = all.iter().fold(0.0_f64, |largest, part| largest.max(part.abs()));
    let mut unit = 1.0;
    while largest / unit >= 1023.95 {
        unit *= 1024.0;
    }
    let number = |bytes: f64| match bytes / unit {
        scaled if scaled.abs() < 0.05 => "0".to_owned(),
        scaled if scaled.abs() >= 99.95 || unit == 1.0 => format!("{scaled:+.0}"),
        scaled => format!("{scaled:+.1}"),
    };
    let blocks = match in_windows {
        true if blocks != 0.0 => format!("about {} (from windows)", number(blocks)),
        _ => number(blocks),
    };
    format!(
        "blocks {blocks}, mapped {}, thread stacks {}, allocator keeps {}, files and shared {}, unexplained {}",
        number(mapped),
        number(stacks),
        number(kept),
        number(shared),
        number(unexplained)
    )
}

/// The verdict in one sentence.
pub(super) fn sentence(view: &View<'_>, balance: &Balance) -> String {
    let words =
        balance.ended.map_or_else(|| living(view, balance), |left| ended::sentence(view, balance, left));
    let limit = balance.limit.as_ref().and_then(reached).unwrap_or_default();
    let unjoined = balance.stacks.unjoined && balance.standing != Standing::Threads;
    let threads = if unjoined { format!("; besides, {}", threads(view, balance)) } else { String::new() };
    let besides = match balance.standing {
        Standing::Leak => mapped_besides(view, balance).unwrap_or_default(),
        _ if balance.growing.blocks > 0 => format!("; besides, {}", leak(view, balance)),
        _ => String::new(),
    };
    format!("{words}{besides}{threads}{limit}{}{}", page_tables(balance), children(balance))
}

/// The verdict on a process that lives.
fn living(view: &View<'_>, balance: &Balance) -> String {
    match balance.standing {
        Standing::Leak => leak(view, balance),
        Standing::NoLeak => no_leak(balance),
        Standing::KeptByAllocator => kept(balance),
        Standing::Mappings => format!(
            "MAPPINGS{}: what the program maps itself (mmap) grows by {}: {} of address space in {}",
            grower(view, balance.pid).map(|name| format!(" in {name}")).unwrap_or_default(),
            speed(balance.rate.mapped),
            format_bytes(balance.mapped_size),
            format_count(balance.mapped_ranges, "range")
        ),
        Standing::Threads => format!("THREADS: {}", threads(view, balance)),
        Standing::SharedMemory => shared_memory(balance),
        Standing::Unseen => unseen(balance),
        Standing::TooEarly => too_early(balance),
    }
}

/// What a process that leaks blocks maps besides.
fn mapped_besides(view: &View<'_>, balance: &Balance) -> Option<String> {
    let rate = balance.rate.mapped;
    let matters = balance.ended.is_none() && rate > 0.0 && rate >= MAPPED_PART * balance.rate.total;
    let name = grower(view, balance.pid).filter(|_| matters)?;
    Some(format!("; besides, what {name} maps itself (mmap) grows by {}", speed(rate)))
}

/// What the verdict still needs: its memory is looked at since later than tracing began, and rarely in windows.
fn too_early(balance: &Balance) -> String {
    let needs = match balance.lacks.as_millis().div_ceil(1000) {
        // Saved before this was known.
        0 => "10 s".to_owned(),
        more => format!("about {more} s more"),
    };
    let looked = match balance.span {
        Duration::ZERO => "only once".to_owned(),
        span => format!("for {}", format_age(span)),
    };
    format!(
        "TOO EARLY TO TELL about this process: its memory has been looked at {looked}, and the verdict needs {needs}"
    )
}

/// Children may leak.
fn here(balance: &Balance) -> &'static str {
    if balance.children_found > 0 { " IN THIS PROCESS" } else { "" }
}

fn no_leak(balance: &Balance) -> String {
    let here = here(balance);
    let grown = signed_bytes(balance.grown.total);
    let words = match balance.course {
        Course::Slowing => {
            format!("it grew by {grown}, slower and slower, as caches do that fill")
        }
        Course::Growing => format!(
            "it grows by {}, by pages of files, which the kernel takes back when it needs memory",
            speed(balance.rate.total)
        ),
        Course::Filling => format!(
            "it grows by {}, but its blocks and mappings hardly do: most likely it uses memory that it had before",
            speed(balance.rate.total)
        ),
        Course::Flat if balance.grown.total >= WORTH as f64 && balance.flat >= FLAT => {
            format!("it grew by {grown} and has been flat for {}", format_age(balance.flat))
        }
        Course::Flat if balance.grown.total >= WORTH as f64 => {
            format!("it grew by {grown}, hardly any of that lately")
        }
        Course::Flat => "memory is flat".to_owned(),
    };
    let cgroup = balance.cgroup.as_ref().filter(|cgroup| cgroup.shmem >= SHARED);
    let elsewhere = cgroup.map(|cgroup| {
        format!(
            "; shared memory and tmpfs of its cgroup {} grew by {}: `memtrace triage` tells whose",
            escape(&cgroup.name),
            signed_bytes(cgroup.shmem as f64)
        )
    });
    format!("NO LEAK SEEN{here}: {words}{}", elsewhere.unwrap_or_default())
}

fn kept(balance: &Balance) -> String {
    let keeper = cures::keeper(&balance.allocators);
    let allocator = keeper.map_or("the allocator".into(), escape);
    let advice = keeper.and_then(cures::cure).map(|cure| format!(": {cure} would help")).unwrap_or_default();
    let blocks = match balance.knowledge {
        Knowledge::AtMost => format!("about {}", signed_bytes(balance.grown.blocks)),
        _ => signed_bytes(balance.grown.blocks),
    };
    let keeps = if balance.ended.is_some() { "kept" } else { "keeps" };
    // What windows did not see may be blocks.
    let likely = if balance.knowledge == Knowledge::AtMost { "MOST LIKELY " } else { "" };
    format!(
        "{likely}NOT A LEAK IN THIS CODE: the process grew by {}, its live blocks by {blocks}; {allocator} {keeps} about {} of freed memory{advice}",
        signed_bytes(balance.grown.total),
        format_bytes(balance.grown.kept.max(0.0) as u64),
    )
}

fn threads(view: &View<'_>, balance: &Balance) -> String {
    let stacks = &balance.stacks;
    let rows = view.profile().processes().and_then(|of| of.mapped.as_deref()).unwrap_or_default();
    let stacks_of = rows
        .iter()
        .filter(|row| row.pid == balance.pid && matches!(row.used_for, MappingUse::ThreadStacks { .. }));
    let row = stacks_of.max_by_key(|row| row.mapped.bytes);
    let by = row.and_then(|row| creator(&view.frames(row.stack)).map(|name| format!(", created by {name}")));
    let by = by.unwrap_or_default();
    if stacks.unjoined {
        return format!(
            "{} of threads that have ended and were never joined{by}: {} of address space; pthread_join or pthread_detach \
             gives them back",
            format_count(stacks.ended, "stack"),
            format_bytes(stacks.ended_bytes),
        );
    }
    format!(
        "{} of threads created since the start{by}: {} of address space; {} of the threads have ended",
        format_count(stacks.count, "stack"),
        format_bytes(stacks.bytes),
        stacks.ended
    )
}

fn shared_memory(balance: &Balance) -> String {
    match &balance.cgroup {
        Some(cgroup) if balance.rate.shared <= 0.0 && cgroup.shmem > 0 => format!(
            "SHARED MEMORY: shared memory and tmpfs of its cgroup {} grew by {}, which are no blocks: `memtrace triage` tells \
             whose",
            escape(&cgroup.name),
            signed_bytes(cgroup.shmem as f64)
        ),
        _ => format!(
            "SHARED MEMORY: shared memory and tmpfs that the process has mapped grow, {} now: `ls -l /proc/{}/map_files` shows files",
            format_bytes(balance.resident.shmem),
            balance.pid
        ),
    }
}

/// When a limit is reached.
fn reached(limit: &Limit) -> Option<String> {
    let time = limit.reached_in.filter(|&time| time <= AHEAD)?;
    let (time, bytes) = (format_age(time), format_bytes(limit.bytes));
    Some(match &limit.kind {
        LimitKind::CgroupMax(_) => format!("; its cgroup's limit of {bytes} is reached in {time}"),
        LimitKind::CgroupHigh(_) => {
            format!("; its cgroup's memory.high of {bytes}, which slows it down, is reached in {time}")
        }
        LimitKind::AddressSpace => format!("; its limit on address space of {bytes} is reached in {time}"),
        LimitKind::Machine => format!("; the machine's {bytes} are used up in {time}"),
    })
}

/// Children are processes of their own: what they hold shows nowhere else.
fn children(balance: &Balance) -> String {
    if balance.children_found == 0 {
        return String::new();
    }
    let named = balance.children.iter().take(NAMED);
    let pids: Vec<String> = named.map(|child| child.pid.to_string()).collect();
    let more = match balance.children_found.saturating_sub(pids.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let comm = balance.children.first().map_or("", |child| child.comm.as_str());
    let (child, are, grow) = match balance.children_found {
        1 => ("child", "is", "GROWS"),
        _ => ("children", "are", "GROW"),
    };
    let rss = balance.children.iter().map(|child| child.rss).sum();
    let grown = if balance.children_grown >= WORTH / 4 {
        format!(" and {grow}, by {} so far", signed_bytes(balance.children_grown as f64))
    } else {
        String::new()
    };
    let advice = match balance.ended {
        None => format!(": `memtrace attach --follow {}`", balance.pid),
        Some(_) => String::new(),
    };
    format!(
        "; its {} {child} ({}{more}: {}; {}) {are} not traced{grown}{advice}",
        balance.children_found,
        pids.join(", "),
        short(comm),
        format_bytes(rss),
    )
}

fn held(amount: Amount) -> String {
    format!("{} in {}", format_bytes(amount.bytes), format_count(amount.blocks, "block"))
}

/// A rate of growth, without the sign that says so.
fn speed(bytes_per_second: f64) -> String {
    format_rate(bytes_per_second).trim_start_matches('+').to_owned()
}

fn signed_bytes(bytes: f64) -> String {
    let sign = if bytes < 0.0 { "-" } else { "" };
    format!("{sign}{}", format_bytes(bytes.abs() as u64))
}
