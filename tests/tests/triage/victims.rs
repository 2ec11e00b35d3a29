//! Whom the OOM killer would take in a cgroup, beside whom it takes.

use std::{fs, path::Path, process::Command};

use memtrace_tests::{Cgroup, Running, memtrace, remark};

use crate::filled::{SIZE, alone, built, parse};

/// Starts a program in a cgroup. It fills its place when it gets a line.
fn started(program: &Path, what: &str, group: &Cgroup, oom_score_adj: i32) -> Running {
    let mut running = Running::spawn(Command::new(program).arg(what));
    running.line_with("ready");
    group.add(running.pid());
    adjust(running.pid(), oom_score_adj);
    running
}

fn adjust(pid: u32, oom_score_adj: i32) {
    fs::write(format!("/proc/{pid}/oom_score_adj"), oom_score_adj.to_string()).expect("a score");
}

fn filled(mut running: Running) -> Running {
    running.write_line("");
    running.line_with("done");
    running
}

/// Whom triage names in that cgroup, and whether it grows; `None` if another limit is nearer.
fn named(group: &Cgroup) -> Option<(u32, Option<bool>)> {
    let triage = parse(memtrace(["triage", "-i", "1s", "-T", "0", "-f", "json"]).stdout.trim());
    let victim = triage.oom_victims.iter().find(|victim| victim.cgroup.as_ref() == Some(&group.name()));
    if victim.is_none() {
        let nearest = triage.limits.iter().find(|limit| limit.kind == "cgroup_max");
        assert!(nearest.is_some_and(|limit| limit.path != Some(group.name())), "{:#?}", triage.oom_victims);
        remark("the limit of another cgroup was nearer");
    }
    victim.map(|victim| (victim.pid, victim.grows))
}

#[test]
fn the_one_that_is_named_is_taken() {
    let _alone = alone();
    // 20 thousandths of it are 1.2 MiB: more than what else differs between two that are alike.
    let Some(group) = Cgroup::to_trace_in(2 * SIZE + SIZE / 2) else { return };
    let (_directory, program) = built();
    let start = |adjust| started(&program, "anonymous", &group, adjust);
    let plain = filled(start(0));
    let sooner = filled(start(20));
    let later = start(0);
    let Some(named) = named(&group) else { return };
    assert_eq!(named, (sooner.pid(), None));
    // It needs more than is left, and is smaller than both by then.
    let later = filled(later);
    assert_eq!(sooner.finish().status, 128 + 9);
    drop(later);
    assert_eq!(plain.finish().status, 0);
}

#[test]
fn the_one_that_grows_may_be_another() {
    let _alone = alone();
    let Some(group) = Cgroup::to_trace_in(4 * SIZE) else { return };
    let (_directory, program) = built();
    let large = filled(started(&program, "anonymous", &group, 0));
    let mut growing = started(&program, "slow", &group, 0);
    growing.write_line("");
    let Some(first) = named(&group) else { return };
    assert_eq!(first, (large.pid(), Some(false)));
    // Half of the limit on top. To be taken later needs a privilege that not every root has.
    adjust(growing.pid(), 500);
    let Some(second) = named(&group) else { return };
    assert_eq!(second, (growing.pid(), Some(true)));
}
