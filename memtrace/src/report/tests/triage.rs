//! The memory of a machine in words.

use std::time::Duration;

use jiff::{Timestamp, tz::TimeZone};

use crate::{
    profile::machine::{
        BoundKind, Bounded, Growth, KernelEvent, KernelLog, Missing, NextStep, Owner, Part, PartKind,
        Pattern, Place, SlowReport, Snapshot, Suspect, Triage, Victim,
    },
    report::{Json, Style, Text, TriageView},
};

const MB: u64 = 1 << 20;

fn owner() -> Owner {
    Owner { pid: 4123, comm: "api\u{1b}[2J\nserver".to_owned() }
}

fn triage() -> Triage {
    let place = Place::Process(owner());
    let growth =
        Growth { place, bytes: 300 * MB, count: 3, grown: 50 * MB as i64, rate: 1e7, at_most: false };
    let part = Part { kind: PartKind::Anonymous, bytes: 900 * MB };
    Triage {
        span: Duration::from_secs(5),
        now: Snapshot {
            at: Duration::from_secs(1000),
            total: 1000 * MB,
            missing: vec![Missing::Slabs],
            ..Snapshot::default()
        },
        parts: vec![(part, 50 * MB as i64)],
        sum: 1000 * MB,
        grown: vec![growth.clone()],
        largest: vec![growth],
        bounds: vec![Bounded {
            kind: BoundKind::CgroupMax("/web".to_owned()),
            bytes: 400 * MB,
            used: 300 * MB,
            rate: 1e7,
            reached_in: Some(Duration::from_secs(74)),
        }],
        victims: vec![Victim {
            owner: owner(),
            score: 700,
            rss: 300 * MB,
            cgroup: Some("/web".to_owned()),
            is_grower: Some(true),
        }],
        suspects: Vec::new(),
        next: vec![NextStep::Attach(4123), NextStep::Remount("/a b".to_owned(), 30 * MB)],
        log: KernelLog {
            events: vec![KernelEvent::Failure {
                at: Duration::from_secs(900),
                comm: "x".to_owned(),
                order: Some(4),
                mode: "GFP_KERNEL".to_owned(),
                free: None,
            }],
            slow: vec![SlowReport::DumpTasks(2000)],
            ..KernelLog::default()
        },
    }
}

fn text(triage: &Triage) -> String {
    let view = TriageView { triage, time: Timestamp::UNIX_EPOCH, last: true, top: 8 };
    let mut out = Vec::new();
    Text::new(Style::default(), TimeZone::UTC).triage(&mut out, &view).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn the_first_three_lines_are_the_answer() {
    let text = text(&triage());
    let lines: Vec<&str> = text.lines().collect();
    let who = "api\\x1b[2J\\x0aserver (pid 4123)";
    let expected = [
        format!("GROWS   {who}, anonymous memory: +9.5 MiB/s (50 MiB in 5.0 s), now 300 MiB"),
        format!(
            "LIMIT   the limit of cgroup /web: 300 MiB of 400 MiB used (75 %), +9.5 MiB/s, reached in 1m14s; the OOM killer \
             would take {who} then, the one that grows"
        ),
        "NEXT    memtrace attach 4123".to_owned(),
    ];
    assert_eq!(lines[..3], expected);
    let victim = format!("  in cgroup /web: {who}, RSS 300 MiB, the one that grows");
    assert!(lines.contains(&victim.as_str()), "{text}");
    assert!(lines.contains(&"  1m40s ago an allocation failed: x asked for 64 KiB in one piece"), "{text}");
    assert!(lines.contains(&"  mount -o remount,size=30720k '/a b'"), "{text}");
    assert!(
        text.contains("Missing: slab caches by name") && text.contains("each of 2,000 processes"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'), "{text}");
}

#[test]
fn address_space_counts_if_threads_were_not_joined() {
    let mut triage = triage();
    let stacks = Pattern::Stacks { count: 40, each: 2 * MB, rss: MB, threads: 1, unjoined: true };
    triage.suspects.push(Suspect {
        owner: owner(),
        parent: None,
        siblings: (0, 0),
        size_grown: 80 * MB as i64,
        patterns: vec![stacks],
    });
    let joined = "40 ranges of 2 MiB above a guard page, as stacks of threads are (1 MiB in memory) but only 1 thread: \
                  threads ended and were never joined";
    assert!(text(&triage).lines().next().unwrap().ends_with(&format!("now 300 MiB; {joined}")));
    triage.grown.clear();
    let first = text(&triage).lines().next().unwrap().to_owned();
    assert!(
        first.starts_with("GROWS   api")
            && first.ends_with(&format!("address space, 80 MiB in 5.0 s: {joined}")),
        "{first}"
    );
}

#[test]
fn json_has_it_on_one_line() {
    let triage = triage();
    let view = TriageView { triage: &triage, time: Timestamp::UNIX_EPOCH, last: true, top: 0 };
    let mut out = Vec::new();
    Json.triage(&mut out, &view).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(text.lines().count() == 1 && !text.contains('\u{1b}'), "{text}");
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let of = &value["triage"];
    assert_eq!(of["grown"][0]["pid"], 4123);
    assert_eq!(of["grown"][0]["comm"], "api\u{1b}[2J\nserver");
    assert_eq!(of["limits"][0]["seconds_to_limit"], 74.0);
    assert_eq!(of["next"][0], "memtrace attach 4123");
    assert_eq!(of["kernel_log"]["events"][0]["ago_s"], 100.0);
    assert_eq!(of["missing"][0]["what"], "slab_caches");
}

#[test]
fn the_victim_is_that_of_the_limit() {
    let mut triage = triage();
    let other = Owner { pid: 7, comm: "other".to_owned() };
    triage.victims.push(Victim { owner: other, cgroup: None, is_grower: None, ..triage.victims[0].clone() });
    let limit = |triage: &Triage| text(triage).lines().nth(1).unwrap().to_owned();
    assert!(limit(&triage).ends_with("server (pid 4123) then, the one that grows"));
    // Another limit is nearer than that of the cgroup.
    triage.bounds[0].kind = BoundKind::Tmpfs("/run".to_owned());
    assert!(limit(&triage).ends_with("; the OOM killer would take other (pid 7) now"));
    assert!(text(&triage).contains("\n  of all processes: other (pid 7), RSS 300 MiB\n"));
}
