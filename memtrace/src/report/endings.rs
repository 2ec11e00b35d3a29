//! How processes ended, and what announced that memory would run out.

use std::time::Duration;

use super::{escape::short, following::listed};
use crate::profile::units::{format_age, format_bytes, format_percent};
use crate::profile::{OutOfMemory, Profile, RanOut, Remark, Sign};

/// Signals that end a process by themselves, by number (include/uapi/asm-generic/signal.h).
const SIGNALS: [(u32, &str); 15] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (14, "SIGALRM"),
    (15, "SIGTERM"),
    (24, "SIGXCPU"),
    (31, "SIGSYS"),
];

/// Whether the text has it at its top, and not among the notes.
pub(super) fn is_heading(remark: &Remark) -> bool {
    matches!(remark, Remark::EarlySign { .. } | Remark::Killed { .. } | Remark::AnotherKilled { .. })
}

/// The lines at the top of a report: a word and a sentence. Processes that were ended by the same signal, as a master does with
/// its workers, have one line.
pub(super) fn headings(profile: &Profile) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let mut told = Vec::new();
    for remark in profile.remarks.iter().filter(|remark| is_heading(remark)) {
        match (remark, ended_by(remark)) {
            (Remark::EarlySign { .. }, _) => lines.extend(sentence(remark).map(|line| ("EARLY SIGN:", line))),
            (_, Some(end)) if told.contains(&end) => {}
            (_, end) => {
                let alike = profile.remarks.iter().filter(|other| end.is_some() && ended_by(other) == end);
                let alike: Vec<&Remark> = alike.collect();
                let line = if alike.len() > 1 { together(&alike) } else { sentence(remark) };
                lines.extend(line.map(|line| ("KILLED:", line)));
                told.extend(end);
            }
        }
    }
    lines
}

/// The signal that ended a process, and whether it dumped core. `None`: it was killed for memory, or was not.
fn ended_by(remark: &Remark) -> Option<(u32, bool)> {
    match remark {
        Remark::Killed { signal, core, out_of_memory: None, .. } => Some((*signal, *core)),
        _ => None,
    }
}

/// Processes that were ended by the same signal.
fn together(remarks: &[&Remark]) -> Option<String> {
    let mut processes = Vec::new();
    let mut last = Duration::ZERO;
    for remark in remarks {
        if let Remark::Killed { pid, comm, at, .. } = remark {
            processes.push((*pid, comm.as_str()));
            last = last.max(*at);
        }
    }
    let (signal, core) = ended_by(remarks.first()?)?;
    Some(format!(
        "processes {} were killed by {}, the last at {}",
        listed(&processes),
        by_signal(signal, core),
        seconds(last)
    ))
}

/// How long before the end the leak check was made: what was lost after it is not known. `None`: no process was killed.
pub(super) fn before_the_end(profile: &Profile) -> Option<String> {
    let checked = profile.processes()?.leak_check.as_deref()?.at;
    let ends = profile.remarks.iter().filter_map(|remark| match remark {
        Remark::Killed { at, .. } => Some(*at),
        _ => None,
    });
    let time = ends.max()?.checked_sub(checked)?;
    Some(format!(
        "The leak check is of {} before the end: what was lost since, and who held it, is not known",
        format_age(time)
    ))
}

/// The remark as one sentence. Text from the target is escaped in it.
pub(super) fn sentence(remark: &Remark) -> Option<String> {
    Some(match remark {
        Remark::EarlySign { pid, at, sign, cgroup, used, limit_bytes, pressure_of } => {
            let what = match cgroup {
                Some(path) => format!("the limit of cgroup {}", short(path)),
                None => "the machine's memory".to_owned(),
            };
            let of = limit_bytes.map(|bytes| format!(" ({})", format_bytes(bytes))).unwrap_or_default();
            let used = used
                .map_or_else(String::new, |used| format!(": {} of {what}{of} is used", format_percent(used)));
            let sign = match sign {
                Sign::NearLimit => "memory is about to run out".to_owned(),
                Sign::High => {
                    "a cgroup has reached memory.high, and its processes are slowed down".to_owned()
                }
                Sign::Max => {
                    "a cgroup has reached its limit, and the kernel looks for memory to give up".to_owned()
                }
                Sign::Pressure => {
                    let whose = match pressure_of {
                        Some(path) => format!("cgroup {}", short(path)),
                        None => "the machine".to_owned(),
                    };
                    format!("tasks of {whose} wait for memory for more than 15 % of the time")
                }
            };
            format!("at {}, {sign}{used}; process {pid} is reported on while there is time", seconds(*at))
        }
        Remark::Killed { pid, comm, at, signal, core, out_of_memory } => {
            let how = match out_of_memory {
                Some(out_of_memory) => format!("the OOM killer{}", cause(out_of_memory, Some(*pid))),
                None => by_signal(*signal, *core),
            };
            format!("process {pid} ({}) was killed at {} by {how}", short(comm), seconds(*at))
        }
        Remark::AnotherKilled { pid, comm, at, out_of_memory } => {
            let name = if comm.is_empty() { String::new() } else { format!(" ({})", short(comm)) };
            format!(
                "another process, {pid}{name}, was killed at {} by the OOM killer{}; it is not traced",
                seconds(*at),
                cause(out_of_memory, None)
            )
        }
        Remark::AgentInCgroup { pid, cgroup, limit_bytes } => format!(
            "memtrace itself is in cgroup {} with process {pid}: what it uses counts against the limit of {}; start it in another \
             cgroup",
            short(cgroup),
            format_bytes(*limit_bytes)
        ),
        _ => return None,
    })
}

fn by_signal(signal: u32, core: bool) -> String {
    let name = SIGNALS.iter().find(|(number, _)| *number == signal).map(|(_, name)| *name);
    let parts: Vec<&str> = name.into_iter().chain(core.then_some("core dumped")).collect();
    match parts.as_slice() {
        [] => format!("signal {signal}"),
        parts => format!("signal {signal} ({})", parts.join(", ")),
    }
}

/// What ran out, and what held it. `victim`: the process, if figures of it are to be told.
fn cause(of: &OutOfMemory, victim: Option<u32>) -> String {
    let limit = of.limit_bytes.map(|bytes| format!(" of {}", format_bytes(bytes))).unwrap_or_default();
    let ran_out = match (of.constraint, &of.cgroup) {
        (RanOut::Machine, _) => ": the machine had no memory left".to_owned(),
        (RanOut::Cgroup, Some(path)) => format!(": cgroup {} was at its limit{limit}", short(path)),
        (RanOut::Cgroup, None) => format!(": its cgroup was at its limit{limit}"),
        (RanOut::Nodes, _) => ": the nodes that it may use had no memory left".to_owned(),
        (RanOut::Unknown, _) => String::new(),
    };
    let figures = of.rss_bytes.filter(|_| victim.is_some()).map(|rss| {
        let anon = of.anon_bytes.unwrap_or_default();
        format!("; its RSS was {}, {} of it anonymous", format_bytes(rss), format_bytes(anon))
    });
    // Only where it explains much of the limit: else it is one figure among many.
    let much = of.limit_bytes.unwrap_or_default() / 4;
    let is_much = |shmem: &u64| of.constraint == RanOut::Cgroup && *shmem > 0 && *shmem >= much;
    let shmem = of
        .shmem_bytes
        .filter(is_much)
        .map(|bytes| format!("; shared memory and tmpfs took {} of the limit", format_bytes(bytes)));
    format!("{ran_out}{}{}", figures.unwrap_or_default(), shmem.unwrap_or_default())
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}
