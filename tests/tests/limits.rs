//! Full tables lose what they have no room for, say so, and break nothing.

use std::process::Command;

use memtrace_tests::{
    Agent, CSource, Running, Totals, agent_path, assert_refused, can_trace, compile, fixture,
};

/// 5000 blocks for a table of about 100: every one is either in the report or in its losses.
#[test]
fn full_table_of_live_blocks() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["many"]);
    let agent = Agent::attach(&[target.pid()], &["--max-live", "100"]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    let kept = report.called_from("keep_before");
    let lost = report.losses.live_map_full;
    assert!(lost >= 4000, "{:?}", report.losses);
    assert!(kept.blocks >= 100, "{kept:?}");
    // The program's other few allocations may be lost too.
    assert!((5000..5010).contains(&(kept.blocks + lost)), "{kept:?} {:?}", report.losses);
    assert_eq!(kept.bytes, 60 * kept.blocks);
    assert!(report.losses.live_map_full_bytes >= 60 * lost - 10 * 60, "{:?}", report.losses);
    assert_eq!(target.finish().status, 0);
}

const STACKS: CSource<'_> = CSource { file: "stacks.c", options: &["-O0", "-g", "-fno-omit-frame-pointer"] };

/// A hundred stacks in a table of 64: totals stay exact, one row has the rest.
#[test]
fn full_table_of_stacks() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut target = fixture::start_path(compile(directory.path(), "stacks", STACKS), &[]);
    let agent = Agent::attach(&[target.pid()], &["--max-stacks", "64"]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert!(report.losses.stack_table_full >= 5 * 36, "{:?}", report.losses);
    assert_eq!((report.outstanding.bytes, report.outstanding.blocks), (5000, 500));
    let rest: Vec<_> = report.stacks.iter().filter(|stack| stack.frames.is_empty()).collect();
    assert_eq!(rest.len(), 1, "{:#?}", report.stacks);
    assert_eq!(rest[0].blocks, report.losses.stack_table_full);
    assert_eq!(report.called_from("keep_at_depth").blocks + rest[0].blocks, 500);
    assert_eq!(target.finish().status, 0);
}

/// The same with room for all: a row a stack.
#[test]
fn a_hundred_stacks() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut target = fixture::start_path(compile(directory.path(), "stacks", STACKS), &[]);
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!(report.called_from("keep_at_depth"), Totals::kept(5000, 500), "{:?}", report.losses);
    assert_eq!(report.stacks_found, 100);
    assert!(report.stacks.iter().all(|stack| stack.blocks == 5), "{:?}", report.callers());
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// The agent has more files open than its caller may be allowed; what it starts is allowed no more.
#[test]
fn few_open_files_are_the_commands_only() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new("prlimit");
    command.arg("--nofile=32:1024").arg(agent_path());
    command.args(["run", "-f", "json", "--", "sh", "-c", "echo limits $(ulimit -Sn) $(ulimit -Hn)"]);
    let finished = Running::spawn(&mut command).finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stdout.lines().any(|line| line == "limits 32 1024"), "{}", finished.stdout);
}

/// If it may not raise its limit, it says so and does not blame the kernel.
#[test]
fn too_few_open_files() {
    if !can_trace() {
        return;
    }
    for arguments in [&["run", "--", "true"] as &[&str], &["kernel", "-n", "1"]] {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-sys_resource", "prlimit", "--nofile=20:20"]);
        command.arg(agent_path()).args(arguments);
        let finished = Running::spawn(&mut command).finish();
        assert_refused(&finished, 1, "ulimit -n");
        assert!(finished.stderr.contains("20"), "{}", finished.stderr);
    }
}
