//! What the kernel said, in the schema.

use std::time::Duration;

use serde::Serialize;

use crate::{
    profile::machine::{self, KernelEvent, SlowReport},
    report::{json::values::seconds, triage::slow_setting},
};

/// The log of the kernel, as far as it is about memory.
#[derive(Serialize)]
pub(super) struct KernelLog<'a> {
    events: Vec<Event<'a>>,
    events_left_out: u64,
    /// Whether the beginning of the log was overwritten.
    cut: bool,
    slow_settings: Vec<Setting>,
}

impl<'a> KernelLog<'a> {
    /// What was said until `now`, since boot.
    pub(super) fn new(log: &'a machine::KernelLog, now: Duration) -> Self {
        let slow = |setting: &SlowReport| Setting {
            setting: match setting {
                SlowReport::DumpTasks(_) => "vm.oom_dump_tasks",
                SlowReport::SerialConsole(..) => "kernel.printk",
            },
            text: slow_setting(setting),
        };
        Self {
            events: log.events.iter().map(|of| event(of, now)).collect(),
            events_left_out: log.left_out,
            cut: log.is_cut,
            slow_settings: log.slow.iter().map(slow).collect(),
        }
    }
}

#[derive(Serialize)]
struct Event<'a> {
    /// `oom_kill`, `allocation_failure`.
    event: &'static str,
    /// Time since then.
    #[serde(serialize_with = "seconds")]
    ago_s: Duration,
    asked_by: &'a str,
    /// It asked for 2 to the power of this pages; null: vmalloc.
    order: Option<u32>,
    /// Failures: the flags.
    mode: Option<&'a str>,
    free_bytes: Option<u64>,
    /// Kills: `machine`, `cgroup`, `nodes`.
    constraint: Option<&'static str>,
    cgroup: Option<&'a str>,
    limit_bytes: Option<u64>,
    killed: Option<Killed<'a>>,
    largest: Option<Killed<'a>>,
    slab_reclaimable_bytes: Option<u64>,
    slab_unreclaimable_bytes: Option<u64>,
    shmem_bytes: Option<u64>,
}

#[derive(Serialize)]
struct Killed<'a> {
    pid: u32,
    comm: &'a str,
    rss_bytes: u64,
    anon_bytes: u64,
    file_bytes: u64,
    shmem_bytes: u64,
    page_table_bytes: u64,
}

impl<'a> From<&'a machine::Killed> for Killed<'a> {
    fn from(of: &'a machine::Killed) -> Self {
        Self {
            pid: of.pid,
            comm: &of.comm,
            rss_bytes: of.rss(),
            anon_bytes: of.anon,
            file_bytes: of.file,
            shmem_bytes: of.shmem,
            page_table_bytes: of.page_tables,
        }
    }
}

fn event(event: &KernelEvent, now: Duration) -> Event<'_> {
    let ago_s = now.saturating_sub(event.at());
    match event {
        KernelEvent::Kill(kill) => Event {
            event: "oom_kill",
            ago_s,
            asked_by: &kill.asked_by,
            order: Some(kill.order),
            mode: None,
            free_bytes: None,
            constraint: Some(kill.constraint.name()),
            cgroup: match &kill.constraint {
                machine::Constraint::Cgroup(path) => Some(path),
                _ => None,
            },
            limit_bytes: kill.limit,
            killed: Some((&kill.killed).into()),
            largest: kill.largest.as_ref().map(Killed::from),
            slab_reclaimable_bytes: kill.slab.map(|(given, _)| given),
            slab_unreclaimable_bytes: kill.slab.map(|(_, kept)| kept),
            shmem_bytes: kill.shmem,
        },
        KernelEvent::Failure { comm, order, mode, free, .. } => Event {
            event: "allocation_failure",
            ago_s,
            asked_by: comm,
            order: *order,
            mode: Some(mode),
            free_bytes: *free,
            constraint: None,
            cgroup: None,
            limit_bytes: None,
            killed: None,
            largest: None,
            slab_reclaimable_bytes: None,
            slab_unreclaimable_bytes: None,
            shmem_bytes: None,
        },
    }
}

/// A setting that makes the report of an OOM kill slow.
#[derive(Serialize)]
struct Setting {
    setting: &'static str,
    text: String,
}
