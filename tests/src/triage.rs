//! The JSON of `memtrace triage`.

use serde::Deserialize;

/// A report.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct TriageReport {
    pub last: bool,
    pub triage: Triage,
}

/// The memory of the machine.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Triage {
    pub answer: Vec<String>,
    pub total_bytes: u64,
    pub sum_bytes: u64,
    pub grown: Vec<Place>,
    pub largest: Vec<Place>,
    pub limits: Vec<MachineLimit>,
    pub oom_victims: Vec<Victim>,
    pub suspects: Vec<TriageSuspect>,
    pub next: Vec<String>,
    pub kernel_log: KernelLog,
    pub missing: Vec<NotThere>,
}

/// Memory in one place.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Place {
    pub place: String,
    pub pid: Option<u32>,
    pub comm: Option<String>,
    pub name: Option<String>,
    pub unattached: Option<bool>,
    pub bytes: u64,
    pub count: u64,
    pub grown_bytes: i64,
    pub text: String,
}

/// A limit.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MachineLimit {
    pub kind: String,
    pub path: Option<String>,
    pub bytes: u64,
    pub used_bytes: u64,
    pub seconds_to_limit: Option<f64>,
}

/// Whom the OOM killer would take.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Victim {
    pub pid: u32,
    pub cgroup: Option<String>,
    pub grows: Option<bool>,
}

/// A process that was looked at closely.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct TriageSuspect {
    pub pid: u32,
    pub parent_pid: Option<u32>,
    pub patterns: Vec<Pattern>,
}

/// What mappings look like.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Pattern {
    pub pattern: String,
    pub count: u64,
    pub each_bytes: Option<u64>,
    pub unjoined: Option<bool>,
}

/// What the kernel said.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct KernelLog {
    pub events: Vec<KernelEvent>,
}

/// One event.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct KernelEvent {
    pub event: String,
    pub asked_by: String,
    pub constraint: Option<String>,
    pub cgroup: Option<String>,
    pub limit_bytes: Option<u64>,
    pub killed: Option<KilledProcess>,
    pub shmem_bytes: Option<u64>,
}

/// Who was killed.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct KilledProcess {
    pub pid: u32,
    pub comm: String,
    pub anon_bytes: u64,
}

/// What is not in the picture.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct NotThere {
    pub what: String,
    pub text: String,
}
