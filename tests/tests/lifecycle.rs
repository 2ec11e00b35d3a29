//! Processes and threads that begin and end.

use memtrace_tests::{Agent, Report, Totals, can_trace, fixture};

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
    assert!(report.notes.iter().any(|note| note.contains("exec")), "{:?}", report.notes);
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
    target.write_line("go");
    let _: String = target.line_with("executed");
    let report = agent.report_when(|report| report.notes.iter().any(|note| note.contains("exec")));
    assert_eq!(report.target.allocators, ["glibc"]);
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
