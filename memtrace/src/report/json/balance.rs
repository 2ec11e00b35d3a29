//! The balance of a process in the schema.

use std::time::Duration;

use serde::Serialize;

use super::{
    Amount,
    curve::Weights,
    values::{rate, seconds},
};
use crate::profile::{self, Knowledge, LimitKind, Parts, Uncounted, View};
use crate::report::balance;

/// What the memory of a process grows by.
#[derive(Serialize)]
pub(super) struct Process<'a> {
    pid: u32,
    /// Time since tracing began, up to the last sample.
    #[serde(serialize_with = "seconds")]
    span_s: Duration,
    /// How far back rates look.
    #[serde(serialize_with = "seconds")]
    recent_s: Duration,
    /// The resident set.
    rss_bytes: u64,
    /// Its parts.
    anon_bytes: u64,
    file_bytes: u64,
    shmem_bytes: u64,
    /// Not part of it.
    swap_bytes: u64,
    page_table_bytes: u64,
    /// Address space.
    size_bytes: u64,
    /// Growth of late of the resident set and swap, and its parts, which add up to it.
    #[serde(serialize_with = "rate")]
    rss_bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    blocks_bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    mapped_bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    stacks_bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    kept_bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    shared_bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    unexplained_bytes_per_second: f64,
    /// How fast stacks grow that are lost or growing by their verdicts.
    #[serde(serialize_with = "rate")]
    leaking_bytes_per_second: f64,
    /// The same as the parts since tracing began, bytes.
    grown_bytes: Grown,
    /// `counted`, `sampled`, or `at_most`: extrapolated from windows, at most what nothing else explains.
    blocks_known: &'static str,
    page_tables_grown_bytes: i64,
    thread_stacks: ThreadStacks,
    /// Null if no cgroup accounts its memory.
    cgroup: Option<Cgroup<'a>>,
    children: Vec<Child<'a>>,
    /// How many there are; `children` may list fewer.
    children_found: u64,
    /// Growth of all of them since they were first seen.
    children_grown_bytes: i64,
    /// `leak`, `no_leak`, `kept_by_allocator`, `mappings`, `threads`, `shared_memory`, `unseen`, `too_early`.
    verdict: &'static str,
    /// The same in a sentence.
    verdict_text: String,
    /// The limit that is reached first; null if none is known.
    limit: Option<Limit<'a>>,
    /// Until then; null if nothing grows towards it.
    seconds_to_limit: Option<f64>,
    /// What stacks hold that are lost or growing by their verdicts.
    growing: Amount,
    /// The unexplained growth that is in memory mapped before tracing began.
    filled_bytes: u64,
    /// Why not all blocks are counted, `size_filter` or `table_full`; null: they are.
    uncounted: Option<&'static str>,
    /// What was outstanding when it exited; null: it lives.
    at_exit: Option<Amount>,
    /// Its memory over the session; of many processes, only those that have grown most have that.
    #[serde(skip_serializing_if = "Option::is_none")]
    curve: Option<Weights>,
}

#[derive(Serialize)]
struct Grown {
    rss: i64,
    blocks: i64,
    mapped: i64,
    stacks: i64,
    kept: i64,
    shared: i64,
    unexplained: i64,
}

/// Stacks of threads created since tracing began.
#[derive(Serialize)]
struct ThreadStacks {
    count: u64,
    bytes: u64,
    /// Of threads that have ended.
    ended: u64,
    ended_bytes: u64,
    /// Whether those threads were never joined.
    unjoined: bool,
}

/// Growth of its cgroup since tracing began.
#[derive(Serialize)]
struct Cgroup<'a> {
    path: &'a str,
    shmem_grown_bytes: i64,
    cache_grown_bytes: i64,
    kernel_grown_bytes: i64,
}

/// A child that is not traced.
#[derive(Serialize)]
struct Child<'a> {
    pid: u32,
    comm: &'a str,
    rss_bytes: u64,
    grown_bytes: i64,
}

#[derive(Serialize)]
struct Limit<'a> {
    /// `cgroup_max`, `cgroup_high`, `address_space`, `machine`.
    kind: &'static str,
    /// Of a cgroup.
    path: Option<&'a str>,
    bytes: u64,
    used_bytes: u64,
}

impl<'a> Process<'a> {
    pub(super) fn new(view: &View<'a>, of: &'a profile::Balance) -> Self {
        let Parts { total, blocks, mapped, stacks, kept, shared, unexplained } = of.rate;
        let seconds = of.limit.as_ref().and_then(|limit| limit.reached_in);
        Self {
            pid: of.pid,
            span_s: of.span,
            recent_s: of.recent,
            rss_bytes: of.resident.rss(),
            anon_bytes: of.resident.anon,
            file_bytes: of.resident.file,
            shmem_bytes: of.resident.shmem,
            swap_bytes: of.resident.swap,
            page_table_bytes: of.resident.page_tables,
            size_bytes: of.resident.size,
            rss_bytes_per_second: total,
            blocks_bytes_per_second: blocks,
            mapped_bytes_per_second: mapped,
            stacks_bytes_per_second: stacks,
            kept_bytes_per_second: kept,
            shared_bytes_per_second: shared,
            unexplained_bytes_per_second: unexplained,
            leaking_bytes_per_second: of.leaking,
            grown_bytes: Grown::from(&of.grown),
            blocks_known: match of.knowledge {
                Knowledge::Counted => "counted",
                Knowledge::Sampled => "sampled",
                Knowledge::AtMost => "at_most",
                Knowledge::Measured => "measured",
            },
            page_tables_grown_bytes: of.page_tables_grown,
            thread_stacks: ThreadStacks::from(of.stacks),
            cgroup: of.cgroup.as_ref().map(Cgroup::from),
            children: of.children.iter().map(Child::from).collect(),
            children_found: of.children_found,
            children_grown_bytes: of.children_grown,
            verdict: of.standing.name(),
            verdict_text: balance::sentence(view, of),
            limit: of.limit.as_ref().map(Limit::from),
            seconds_to_limit: seconds.map(|time| (time.as_secs_f64() * 10.0).round() / 10.0),
            growing: of.growing.into(),
            filled_bytes: of.filled,
            uncounted: of.uncounted.map(|uncounted| match uncounted {
                Uncounted::Sizes => "size_filter",
                Uncounted::TableFull(_) => "table_full",
            }),
            at_exit: of.ended.map(Amount::from),
            curve: Weights::of(&of.weights),
        }
    }
}

impl From<&Parts> for Grown {
    fn from(parts: &Parts) -> Self {
        let Parts { total, blocks, mapped, stacks, kept, shared, unexplained } = *parts;
        let [rss, blocks, mapped, stacks, kept, shared, unexplained] =
            [total, blocks, mapped, stacks, kept, shared, unexplained].map(|bytes| bytes as i64);
        Self { rss, blocks, mapped, stacks, kept, shared, unexplained }
    }
}

impl From<profile::ThreadStacks> for ThreadStacks {
    fn from(of: profile::ThreadStacks) -> Self {
        let profile::ThreadStacks { count, bytes, ended, ended_bytes, unjoined } = of;
        Self { count, bytes, ended, ended_bytes, unjoined }
    }
}

impl<'a> From<&'a profile::CgroupGrowth> for Cgroup<'a> {
    fn from(of: &'a profile::CgroupGrowth) -> Self {
        Self {
            path: &of.name,
            shmem_grown_bytes: of.shmem,
            cache_grown_bytes: of.cache,
            kernel_grown_bytes: of.kernel,
        }
    }
}

impl<'a> From<&'a profile::Child> for Child<'a> {
    fn from(of: &'a profile::Child) -> Self {
        Self { pid: of.pid, comm: &of.comm, rss_bytes: of.rss, grown_bytes: of.grown }
    }
}

impl<'a> From<&'a profile::Limit> for Limit<'a> {
    fn from(of: &'a profile::Limit) -> Self {
        let (kind, path) = match &of.kind {
            LimitKind::CgroupMax(path) => ("cgroup_max", Some(path.as_str())),
            LimitKind::CgroupHigh(path) => ("cgroup_high", Some(path.as_str())),
            LimitKind::AddressSpace => ("address_space", None),
            LimitKind::Machine => ("machine", None),
        };
        Self { kind, path, bytes: of.bytes, used_bytes: of.used }
    }
}
