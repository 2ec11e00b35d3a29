//! How processes ended, at the top of the text.

use std::time::Duration;

use jiff::tz::TimeZone;

use super::{HOSTILE, Recorded, assert_harmless, checked};
use crate::profile::{OutOfMemory, RanOut, Remark, Sign};
use crate::report::{Style, Text};

fn text(report: &Recorded) -> String {
    report.written(Text::new(Style::default(), TimeZone::UTC))
}

fn killed(comm: &str) -> Remark {
    let out_of_memory =
        OutOfMemory { constraint: RanOut::Cgroup, cgroup: Some("/web".into()), ..OutOfMemory::default() };
    let (comm, at) = (comm.to_owned(), Duration::from_millis(5800));
    Remark::Killed { pid: 7, comm, at, signal: 9, core: false, out_of_memory: Some(out_of_memory) }
}

#[test]
fn they_come_first_and_not_among_the_notes() {
    let at = Duration::from_millis(4500);
    let sign = Remark::EarlySign {
        pid: 7,
        at,
        sign: Sign::NearLimit,
        cgroup: Some("/web".into()),
        used: Some(0.91),
        limit_bytes: Some(64 << 20),
        pressure_of: None,
    };
    let text = text(&Recorded { remarks: vec![sign, killed("api"), Remark::RangesJoined], ..checked() });
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines[1],
        "EARLY SIGN: at 4.5 s, memory is about to run out: 91 % of the limit of cgroup /web (64 MiB) is used; process 7 is \
         reported on while there is time"
    );
    assert_eq!(
        lines[2],
        "KILLED: process 7 (api) was killed at 5.8 s by the OOM killer: cgroup /web was at its limit"
    );
    // The check was at 4 s.
    let age = "The leak check is of 1.8 s before the end: what was lost since, and who held it, is not known";
    assert!(lines.contains(&age), "{text}");
    assert_eq!(lines.iter().filter(|line| line.starts_with("Note: ")).count(), 1, "{text}");
}

#[test]
fn workers_that_their_master_ended_have_one_line() {
    let ended = |pid, signal| {
        let at = Duration::from_millis(5000 + u64::from(pid));
        Remark::Killed { pid, comm: "worker".into(), at, signal, core: false, out_of_memory: None }
    };
    let remarks = vec![ended(11, 15), ended(12, 15), killed("api"), ended(13, 15), ended(14, 11)];
    let text = text(&Recorded { remarks, ..checked() });
    let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("KILLED:")).collect();
    assert_eq!(
        lines,
        [
            "KILLED: processes 11 (worker), 12 (worker), 13 (worker) were killed by signal 15 (SIGTERM), the last at 5.0 s",
            "KILLED: process 7 (api) was killed at 5.8 s by the OOM killer: cgroup /web was at its limit",
            "KILLED: process 14 (worker) was killed at 5.0 s by signal 11 (SIGSEGV)",
        ]
    );
}

/// Waiting tasks may be others than those of the cgroup whose limit is near.
#[test]
fn pressure_is_somebodys() {
    let line = |pressure_of: Option<&str>| {
        let (used, limit_bytes, cgroup) = (Some(0.5), Some(64 << 20), Some("/web".into()));
        let pressure_of = pressure_of.map(str::to_owned);
        let (at, sign) = (Duration::from_millis(4500), Sign::Pressure);
        let sign = Remark::EarlySign { pid: 7, at, sign, cgroup, used, limit_bytes, pressure_of };
        text(&Recorded { remarks: vec![sign], ..checked() }).lines().nth(1).unwrap_or_default().to_owned()
    };
    let rest = "wait for memory for more than 15 % of the time: 50 % of the limit of cgroup /web (64 MiB) is used; process 7 is \
                reported on while there is time";
    assert_eq!(line(None), format!("EARLY SIGN: at 4.5 s, tasks of the machine {rest}"));
    assert_eq!(line(Some("/db")), format!("EARLY SIGN: at 4.5 s, tasks of cgroup /db {rest}"));
}

#[test]
fn without_an_end_there_is_no_time_before_it() {
    let text = text(&checked());
    assert!(!text.contains("before the end") && !text.contains("KILLED"), "{text}");
}

#[test]
fn names_of_processes_do_no_harm() {
    assert_harmless(&text(&Recorded { remarks: vec![killed(HOSTILE)], ..checked() }));
}
