//! Processes and threads that begin and end.

use std::{process::Command, time::Instant};

use memtrace_tests::{Agent, Report, Running, Totals, can_trace, fixture, fixture_path, limit};

fn lifecycle(what: &str) -> Report {
    let mut target = fixture::start("lifecycle", &[what]);
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    agent.interrupt()
}

#[track_caller]
fn assert_before_and_after(report: &Report) {
    assert_eq!(report.called_from("keep_before"), Totals::kept(500 * 60, 500), "{:?}", report.callers());
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.callers());
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// A child frees its copies of the parent's blocks and allocates its own: neither is the parent's.
#[test]
fn fork_leaves_the_parents_count_alone() {
    if !can_trace() {
        return;
    }
    let report = lifecycle("fork");
    assert_before_and_after(&report);
    assert_eq!(report.called_from("keep_in_child"), Totals::default());
    assert_eq!(report.losses.children_not_traced, 1);
}

/// A child that shares its parent's memory until it executes.
#[test]
fn posix_spawn_leaves_the_parents_count_alone() {
    if !can_trace() {
        return;
    }
    let report = lifecycle("spawn");
    assert_before_and_after(&report);
    assert_eq!(report.losses.children_not_traced, 5);
}

/// Counts start anew with another program, from its first allocation on.
#[test]
fn exec_starts_anew() {
    if !can_trace() {
        return;
    }
    let report = lifecycle("exec");
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.callers());
    assert_eq!(report.called_from("keep_before"), Totals::default());
    assert!(report.says("exec"), "{:?}", report.remarks);
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// What the program before kept takes no place from the new one's blocks.
#[test]
fn exec_leaves_the_table_to_the_new_program() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["exec-with-many"]);
    let agent = Agent::attach(&[target.pid()], &["--max-live", "10000"]);
    // The new program is done before the agent learns of it.
    agent.pause();
    fixture::work(&mut target);
    agent.go_on();
    let report = agent.interrupt();
    assert_eq!(report.called_from("keep_after"), Totals::kept(8000 * 80, 8000), "{:?}", report.losses);
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// Blocks of a program 256 before, at the same addresses, are not taken for the present one's.
#[test]
fn blocks_of_256_programs_before_are_not_mistaken() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new("setarch");
    command.args(["--addr-no-randomize"]).arg(fixture_path("lifecycle")).arg("exec-again-and-again");
    let mut target = Running::spawn(&mut command);
    let _: String = target.line_with("ready");
    let agent = Agent::attach(&[target.pid()], &[]);
    agent.pause();
    fixture::work(&mut target);
    agent.go_on();
    let report = agent.interrupt();
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.losses);
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// The process is another task then, as far as the kernel's probes go.
#[test]
fn exec_by_a_thread_is_followed() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["exec-by-thread"]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    let links = agent.links();
    target.write_line("go");
    let _: String = target.line_with("executed");
    let report = agent.report_when(|report| report.says("exec"));
    assert_eq!(report.target.allocators, ["glibc"]);
    // The same again, in the dynamic loader too, when those of the program before are given up.
    let end = Instant::now() + limit();
    while agent.links() > links {
        assert!(Instant::now() < end, "{} of {links}", agent.links());
        let _: Report = agent.report();
    }
    for _ in 0..10 {
        let _: Report = agent.report();
    }
    assert_eq!(agent.links(), links);
    target.write_line("go");
    let _: String = target.line_with("done");
    let report = agent.interrupt();
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.callers());
}

/// What threads that have ended left behind counts.
#[test]
fn threads_come_and_go() {
    if !can_trace() {
        return;
    }
    let report = lifecycle("threads");
    let found = report.called_from("keep_in_thread");
    let expected = Totals {
        bytes: 100 * 90,
        blocks: 100,
        allocated_bytes: 1000 * 90,
        allocated_blocks: 1000,
        freed_bytes: 900 * 90,
        freed_blocks: 900,
    };
    assert_eq!(found, expected, "{:?}", report.callers());
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// A program that is executed again needs no other probes, in its dynamic loader neither.
#[test]
fn exec_again_and_again_attaches_nothing_twice() {
    if !can_trace() {
        return;
    }
    let script = r#"echo ready; read go; exec sh -c "$0" "$0""#;
    let mut target = Running::spawn(Command::new("sh").args(["-c", script, script]));
    let _: String = target.line_with("ready");
    let mut agent = Agent::attach(&[target.pid()], &[]);
    let mut links = Vec::new();
    for times in 2..6 {
        target.write_line("go");
        let _: String = target.line_with("ready");
        if times > 2 {
            agent.report_when(|report| {
                report.remark("exec").is_some_and(|remark| *remark.value("times") == times - 1)
            });
            links.push(agent.links());
        }
    }
    assert!(links[0] > 0 && links.iter().all(|count| *count == links[0]), "{links:?}");
    let _: Report = agent.interrupt();
}
