//! Marks: SIGUSR1 marks a moment, and reports are limited to what was allocated since it, or between two.

use std::{fs, path::PathBuf, time::Duration};

use memtrace_tests::{
    Agent, CSource, Report, Running, assert_refused, can_trace, compile, fixture,
    saved::{attach, report, shown, wait_for_report},
    shared_directory,
};
use nix::sys::signal::Signal;

/// Functions of the program, and the bytes that each keeps in a round.
const KEPT: [(&str, u64); 4] =
    [("keep_large", 3000), ("keep_small", 500), ("keep_more", 300), ("dropped", 50)];

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = shared_directory();
    let program = compile(directory.path(), "builds", CSource { file: "builds.c", options: &["-O1", "-g"] });
    (directory, program)
}

#[track_caller]
fn assert_kept(report: &Report, rounds: u64) {
    for (function, bytes) in KEPT {
        let kept = report.called_from(function).bytes;
        assert_eq!(kept, rounds * bytes, "{function}: {:?} {:?}", report.span, report.callers());
    }
    let all: u64 = KEPT.iter().map(|(_, bytes)| rounds * bytes).sum();
    assert_eq!(report.outstanding.bytes, all);
}

/// A round of the program, apart from marks by more than the clock of blocks is coarse.
fn work(target: &mut Running) {
    std::thread::sleep(Duration::from_millis(30));
    fixture::work(target);
    std::thread::sleep(Duration::from_millis(30));
}

/// Marks a moment and waits for a report that has it.
fn mark(agent: &mut Agent, number: u64) -> Report {
    agent.mark();
    agent.report_when(|report| report.marks.last().is_some_and(|mark| mark.number == number))
}

fn end(target: Running, agent: Agent) {
    let _: Report = agent.interrupt();
    let mut target = target;
    target.close_stdin();
    assert_eq!(target.finish().status, 0);
}

#[test]
fn since_a_mark_only_later_blocks_count() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = place();
    let mut target = fixture::start_path(program, &[]);
    let mut agent = Agent::attach(&[target.pid()], &["--since-mark"]);
    work(&mut target);
    // Without a mark, everything counts.
    let report = agent.fresh_report();
    assert!(report.span.is_none() && report.marks.is_empty());
    assert_kept(&report, 1);
    let report = mark(&mut agent, 1);
    let span = report.span.expect("a span");
    assert_eq!((span.from_mark, span.to_mark, span.attached_share), (1, None, 1.0));
    assert!(report.marks[0].at_s == span.from_s && span.from_s <= report.elapsed_s);
    assert_kept(&report, 0);
    work(&mut target);
    work(&mut target);
    let report = agent.fresh_report();
    assert_kept(&report, 2);
    // What was allocated and freed covers everything, as with --older.
    let small = report.stacks.iter().find(|stack| stack.frames[0].name() == "keep_small").expect("its stack");
    assert_eq!((small.bytes, small.allocated_bytes), (1000, 1500));
    assert_kept(&mark(&mut agent, 2), 0);
    end(target, agent);
}

#[test]
fn between_two_marks_what_is_left_of_that_time_counts() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = place();
    let mut target = fixture::start_path(program, &[]);
    let mut agent = Agent::attach(&[target.pid()], &["--between-marks"]);
    work(&mut target);
    assert_kept(&mark(&mut agent, 1), 0);
    work(&mut target);
    let report = agent.fresh_report();
    assert_eq!(report.span.and_then(|span| span.to_mark), None);
    assert_kept(&report, 1);
    mark(&mut agent, 2);
    work(&mut target);
    work(&mut target);
    let report = agent.fresh_report();
    let span = report.span.expect("a span");
    assert_eq!((span.from_mark, span.to_mark), (1, Some(2)));
    assert_kept(&report, 1);
    end(target, agent);
}

#[test]
fn of_samples_the_estimate_is_of_the_span() {
    if !can_trace() {
        return;
    }
    let (_directory, program) = place();
    let mut target = fixture::start_path(program, &[]);
    // Blocks of 16 bytes and more are certain to be drawn.
    let mut agent = Agent::attach(&[target.pid()], &["--since-mark", "--sample", "16"]);
    work(&mut target);
    mark(&mut agent, 1);
    work(&mut target);
    let report = agent.fresh_report();
    assert!(report.uncertainty.is_some() && !report.mode.exact);
    assert_eq!(report.called_from("keep_large").bytes, 3000);
    end(target, agent);
}

#[test]
fn a_saved_report_is_limited_to_what_it_was_saved_with() {
    if !can_trace() {
        return;
    }
    let (directory, program) = place();
    for (options, others) in [(&["--since-mark"][..], "--between-marks"), (&[][..], "--since-mark")] {
        let file = directory.path().join("session.mt");
        let _ = fs::remove_file(&file);
        let mut target = fixture::start_path(&program, &[]);
        let agent = attach(&[target.pid()], &file, &[options, &["--all"]].concat());
        wait_for_report(&file);
        work(&mut target);
        agent.signal(Signal::SIGUSR1);
        work(&mut target);
        wait_for_report(&file);
        agent.signal(Signal::SIGINT);
        let finished = agent.finish();
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        assert_eq!(finished.stderr.contains("kill -USR1"), !options.is_empty(), "{}", finished.stderr);
        let text = shown(&file, &[options, &["--all"]].concat());
        let is_limited = text.contains("ONLY WHAT WAS ALLOCATED SINCE MARK 1 (");
        assert_eq!(is_limited, !options.is_empty(), "{text}");
        let bytes = if is_limited { "500 B in 50 blocks" } else { "1000 B in 100 blocks" };
        assert!(text.contains(bytes), "{text}");
        assert!(finished.stdout.ends_with(&text), "{text}\n{}", finished.stdout);
        assert_refused(&report(&file, &[others]), 1, "limited");
        assert_eq!(target.finish().status, 0);
    }
}
