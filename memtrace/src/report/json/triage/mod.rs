//! The memory of a machine in the schema.

mod log;

use std::{io, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use self::log::KernelLog;
use super::{
    Json, SCHEMA, line,
    values::{optional_seconds, optional_share, rate, rfc3339, seconds},
};
use crate::{
    profile::machine::{self, Missing, Owner, Pattern, Place},
    report::triage::{TriageView, answer, command, missing, pattern, place},
};

impl Json {
    /// Writes the report of a machine.
    ///
    /// # Errors
    /// What `out` returns.
    pub fn triage(&self, out: &mut dyn io::Write, view: &TriageView<'_>) -> io::Result<()> {
        line(out, &Report::from(view))
    }
}

/// The report of `memtrace triage`, on one line.
#[derive(Serialize)]
struct Report<'a> {
    /// Version of the schema: 1.
    schema: u32,
    /// Wall-clock time in UTC, RFC 3339, whole seconds.
    #[serde(serialize_with = "rfc3339")]
    time: Timestamp,
    /// Whether this is the last report.
    last: bool,
    target: Target,
    triage: Triage<'a>,
}

#[derive(Serialize)]
struct Target {
    /// `machine`.
    kind: &'static str,
}

#[derive(Serialize)]
struct Triage<'a> {
    /// What grows, the nearest limit, the next command, in words.
    answer: Vec<String>,
    /// Time between two looks.
    #[serde(serialize_with = "seconds")]
    span_s: Duration,
    total_bytes: u64,
    available_bytes: u64,
    swap_bytes: u64,
    swap_used_bytes: u64,
    huge_free_bytes: u64,
    /// Of these, promised to mappings.
    huge_reserved_bytes: u64,
    /// Share of the last 10 s in which some task waited for memory.
    #[serde(serialize_with = "optional_share")]
    pressure: Option<f64>,
    /// What `parts` add up to.
    sum_bytes: u64,
    parts: Vec<Part>,
    grown: Vec<Growth<'a>>,
    largest: Vec<Growth<'a>>,
    processes_found: usize,
    processes: Vec<Process<'a>>,
    cgroups: Vec<Cgroup<'a>>,
    limits: Vec<Limit<'a>>,
    oom_victims: Vec<Victim<'a>>,
    suspects: Vec<Suspect<'a>>,
    next: Vec<String>,
    kernel_log: KernelLog<'a>,
    missing: Vec<NotThere<'a>>,
}

#[derive(Serialize)]
struct Part {
    part: &'static str,
    bytes: u64,
    grown_bytes: i64,
}

/// Memory in one place.
#[derive(Serialize)]
struct Growth<'a> {
    place: &'static str,
    /// The part it is in; null of swap.
    part: Option<&'static str>,
    pid: Option<u32>,
    comm: Option<&'a str>,
    /// Mount point, path, name of a memfd, cache or caller.
    name: Option<&'a str>,
    /// Segments: whether no process has attached them.
    unattached: Option<bool>,
    bytes: u64,
    count: u64,
    grown_bytes: i64,
    #[serde(serialize_with = "rate")]
    bytes_per_second: f64,
    /// Whether the growth is an upper bound.
    at_most: bool,
    text: String,
}

impl<'a> From<&'a machine::Growth> for Growth<'a> {
    fn from(of: &'a machine::Growth) -> Self {
        let owner = of.place.owner();
        Self {
            place: of.place.name(),
            part: of.place.part().map(machine::PartKind::name),
            pid: owner.map(|owner| owner.pid),
            comm: owner.map(|owner| owner.comm.as_str()),
            name: of.place.label(),
            unattached: if let Place::Segments(_, unattached) = of.place { Some(unattached) } else { None },
            bytes: of.bytes,
            count: of.count,
            grown_bytes: of.grown,
            bytes_per_second: of.rate,
            at_most: of.at_most,
            text: place(&of.place, of.count),
        }
    }
}

#[derive(Serialize)]
struct Process<'a> {
    pid: u32,
    comm: &'a str,
    parent_pid: u32,
    threads: u64,
    anon_bytes: u64,
    file_bytes: u64,
    shmem_bytes: u64,
    swap_bytes: u64,
    huge_page_bytes: u64,
    page_table_bytes: u64,
    rss_bytes: u64,
    size_bytes: u64,
    oom_score: u64,
    oom_score_adj: i64,
    cgroup: Option<&'a str>,
    /// Whether shared pages count by the process's share of them.
    proportional: bool,
}

impl<'a> From<&'a machine::ProcessMemory> for Process<'a> {
    fn from(of: &'a machine::ProcessMemory) -> Self {
        Self {
            pid: of.owner.pid,
            comm: &of.owner.comm,
            parent_pid: of.parent,
            threads: of.threads,
            anon_bytes: of.anon,
            file_bytes: of.file,
            shmem_bytes: of.shmem,
            swap_bytes: of.swap,
            huge_page_bytes: of.huge,
            page_table_bytes: of.page_tables,
            rss_bytes: of.rss,
            size_bytes: of.size,
            oom_score: of.oom_score,
            oom_score_adj: of.oom_adjust,
            cgroup: Some(of.cgroup.as_str()).filter(|path| !path.is_empty()),
            proportional: of.is_share,
        }
    }
}

#[derive(Serialize)]
struct Cgroup<'a> {
    path: &'a str,
    bytes: u64,
    cache_bytes: u64,
    shmem_bytes: u64,
    kernel_bytes: u64,
    max_bytes: Option<u64>,
    high_bytes: Option<u64>,
    swap_max_bytes: Option<u64>,
    #[serde(serialize_with = "optional_share")]
    pressure: Option<f64>,
}

#[derive(Serialize)]
struct Limit<'a> {
    kind: &'static str,
    path: Option<&'a str>,
    bytes: u64,
    used_bytes: u64,
    #[serde(serialize_with = "rate")]
    bytes_per_second: f64,
    #[serde(serialize_with = "optional_seconds")]
    seconds_to_limit: Option<Duration>,
}

#[derive(Serialize)]
struct Victim<'a> {
    pid: u32,
    comm: &'a str,
    oom_score: u64,
    rss_bytes: u64,
    /// The cgroup whose limit is reached; null: of all processes.
    cgroup: Option<&'a str>,
    /// Whether it is the process that grows; null if none does.
    grows: Option<bool>,
}

#[derive(Serialize)]
struct Suspect<'a> {
    pid: u32,
    comm: &'a str,
    parent_pid: Option<u32>,
    parent_comm: Option<&'a str>,
    siblings_grown: u64,
    siblings_grown_bytes: i64,
    size_grown_bytes: i64,
    patterns: Vec<Shape>,
}

#[derive(Serialize)]
struct Shape {
    /// `thread_stacks`, `arenas`, `ranges`.
    pattern: &'static str,
    count: u64,
    each_bytes: Option<u64>,
    rss_bytes: u64,
    /// Living threads, and whether threads ended without being joined.
    threads: Option<u64>,
    unjoined: Option<bool>,
    text: String,
}

impl From<&Pattern> for Shape {
    fn from(of: &Pattern) -> Self {
        let (name, count, each, rss, threads, unjoined) = match *of {
            Pattern::Stacks { count, each, rss, threads, unjoined } => {
                ("thread_stacks", count, Some(each), rss, Some(threads), Some(unjoined))
            }
            Pattern::Arenas { count, rss } => ("arenas", count, None, rss, None, None),
            Pattern::Ranges { count, each, rss } => ("ranges", count, Some(each), rss, None, None),
        };
        let text = pattern(of);
        Self { pattern: name, count, each_bytes: each, rss_bytes: rss, threads, unjoined, text }
    }
}

#[derive(Serialize)]
struct NotThere<'a> {
    what: &'static str,
    /// Of how many processes.
    count: Option<u64>,
    /// Of which mount point.
    name: Option<&'a str>,
    text: String,
}

impl<'a> From<&'a Missing> for NotThere<'a> {
    fn from(of: &'a Missing) -> Self {
        let count = match of {
            Missing::Shares(count) | Missing::Descriptors(count) | Missing::Processes(count) => Some(*count),
            _ => None,
        };
        let name = if let Missing::Mount(point) = of { Some(point.as_str()) } else { None };
        Self { what: of.name(), count, name, text: missing(of) }
    }
}

fn suspect(of: &machine::Suspect) -> Suspect<'_> {
    let parent: Option<&Owner> = of.parent.as_ref();
    Suspect {
        pid: of.owner.pid,
        comm: &of.owner.comm,
        parent_pid: parent.map(|parent| parent.pid),
        parent_comm: parent.map(|parent| parent.comm.as_str()),
        siblings_grown: of.siblings.0,
        siblings_grown_bytes: of.siblings.1,
        size_grown_bytes: of.size_grown,
        patterns: of.patterns.iter().map(Shape::from).collect(),
    }
}

impl<'a> From<&TriageView<'a>> for Report<'a> {
    fn from(view: &TriageView<'a>) -> Self {
        let (of, shown) = (view.triage, view.shown());
        let now = &of.now;
        let mut processes: Vec<&machine::ProcessMemory> = now.processes.iter().collect();
        processes.sort_by_key(|process| std::cmp::Reverse(process.anon));
        let part = |(part, grown): &(machine::Part, i64)| Part {
            part: part.kind.name(),
            bytes: part.bytes,
            grown_bytes: *grown,
        };
        let cgroup = |of: &'a machine::CgroupMemory| Cgroup {
            path: &of.path,
            bytes: of.current,
            cache_bytes: of.cache,
            shmem_bytes: of.shmem,
            kernel_bytes: of.kernel,
            max_bytes: of.max,
            high_bytes: of.high,
            swap_max_bytes: of.swap_max,
            pressure: of.pressure,
        };
        let limit = |of: &'a machine::Bounded| Limit {
            kind: of.kind.name(),
            path: of.kind.path(),
            bytes: of.bytes,
            used_bytes: of.used,
            bytes_per_second: of.rate,
            seconds_to_limit: of.reached_in,
        };
        let victim = |of: &'a machine::Victim| Victim {
            pid: of.owner.pid,
            comm: &of.owner.comm,
            oom_score: of.score,
            rss_bytes: of.rss,
            cgroup: of.cgroup.as_deref(),
            grows: of.is_grower,
        };
        let triage = Triage {
            answer: answer(of).into_iter().map(|(head, text)| format!("{head} {text}")).collect(),
            span_s: of.span,
            total_bytes: now.total,
            available_bytes: now.available,
            swap_bytes: now.swap.0,
            swap_used_bytes: now.swap.1,
            huge_free_bytes: now.huge_free,
            huge_reserved_bytes: now.huge_reserved,
            pressure: now.pressure,
            sum_bytes: of.sum,
            parts: of.parts.iter().map(part).collect(),
            grown: of.grown.iter().take(shown).map(Growth::from).collect(),
            largest: of.largest.iter().take(shown).map(Growth::from).collect(),
            processes_found: processes.len(),
            processes: processes.into_iter().take(shown).map(Process::from).collect(),
            cgroups: now.cgroups.iter().take(shown).map(cgroup).collect(),
            limits: of.bounds.iter().take(shown).map(limit).collect(),
            oom_victims: of.victims.iter().map(victim).collect(),
            suspects: of.suspects.iter().map(suspect).collect(),
            next: of.next.iter().map(command).collect(),
            kernel_log: KernelLog::new(&of.log, now.at),
            missing: now.missing.iter().map(NotThere::from).collect(),
        };
        Self { schema: SCHEMA, time: view.time, last: view.last, target: Target { kind: "machine" }, triage }
    }
}
