//! Tracing stays within its budget by doing less, and says so. That it does is shown by `cargo xtask bench budget`: no
//! test asserts on time.

use memtrace_tests::{Agent, Report, Running, agent_path, can_trace, fixture, fixture_path, memtrace};

/// A program that does nothing but allocate is traced in windows; its leak is found, and what came and went is not
/// taken for one.
#[test]
fn a_leak_is_found_in_windows() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("hot", &[]);
    let mut agent = Agent::attach_with(&[target.pid()], &["--max-overhead", "10%"]);
    let report =
        agent.report_when(|report| report.mode.gaps >= 3 && report.called_from("keep_one").blocks > 0);
    let first = report.stacks.first().expect("a stack");
    assert_eq!(first.caller(), "keep_one", "{:?}", report.callers());
    // At most one block is alive at a time.
    let churned = report.called_from("churn");
    assert!(churned.blocks <= 1 + report.mode.gaps, "{churned:?}");
    assert!(!report.mode.exact && report.mode.attached_share < 1.0, "{:?}", report.mode);
    let (allocated, freed) = (report.mode.window_allocated_blocks, report.mode.window_freed_blocks);
    let grown = allocated.zip(freed).map(|(allocated, freed)| allocated as f64 / freed as f64);
    // One block in a thousand stays.
    assert!(grown.is_some_and(|grown| (1.0..1.05).contains(&grown)), "{grown:?}");
    let overhead = report.overhead.expect("it was measured");
    assert_eq!(overhead.limit, Some(0.1));
    assert!(overhead.share > 0.0 && overhead.calls > 0, "{overhead:?}");
    let _ = agent.interrupt();
}

/// A block that a function asked another one for came once.
#[test]
fn blocks_are_not_counted_twice_in_windows() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("hot", &["aligned"]);
    let mut agent = Agent::attach_with(&[target.pid()], &["--max-overhead", "10%"]);
    let report =
        agent.report_when(|report| report.mode.window_freed_blocks.is_some_and(|freed| freed > 1000));
    let (allocated, freed) = (report.mode.window_allocated_blocks, report.mode.window_freed_blocks);
    let grown = allocated.zip(freed).map(|(allocated, freed)| allocated as f64 / freed as f64);
    assert!(grown.is_some_and(|grown| (1.0..1.05).contains(&grown)), "{grown:?}");
    let _ = agent.interrupt();
}

/// With room for everything, everything is counted: by sessions, where every return is wanted.
#[test]
fn a_calm_program_is_counted_exactly() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("family", &[]);
    let agent = Agent::attach_with(&[target.pid()], &[]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert!(report.mode.exact && report.mode.gaps == 0, "{:?} {:?}", report.mode, report.remarks);
    let found = report.called_from("realloc_growing");
    assert_eq!((found.bytes, found.blocks), (700_000, 7), "all: {:?}", report.callers());
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    assert_eq!(report.overhead.expect("it was measured").limit, Some(0.1));
}

#[test]
fn a_budget_that_pays_for_nothing_is_said_to() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("hot", &[]);
    let finished = memtrace(["attach", &target.pid().to_string(), "--max-overhead", "0.001%", "-d", "1m"]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(
        finished.stdout.contains("last report") && finished.stdout.contains("raise --max-overhead"),
        "{finished:?}"
    );
}

/// The report shows what tracing costs even if there is no budget.
#[test]
fn the_cost_is_shown_without_a_budget() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("hot", &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    let report = agent.report_when(|report| report.overhead.is_some_and(|overhead| overhead.calls > 1000));
    let overhead = report.overhead.expect("it was measured");
    assert_eq!(overhead.limit, None);
    assert!(overhead.share > 0.0 && overhead.share <= 1.0, "{overhead:?}");
    assert!(report.mode.exact);
    let _ = agent.interrupt();
}

/// A command is counted exactly from its first allocation, until that is too dear: then it is detached at once, and a
/// report says so.
#[test]
fn a_storm_is_cut_off_with_a_report() {
    if !can_trace() {
        return;
    }
    let mut command = std::process::Command::new(agent_path());
    command.args(["run", "--max-overhead", "2%", "-i", "1h", "-f", "json", "--"]).arg(fixture_path("hot"));
    let mut agent = Running::spawn(&mut command);
    let report = loop {
        let line = agent.line().expect("a report before the interval is over");
        if line.starts_with('{') {
            break Report::parse(&line);
        }
    };
    assert!(!report.last && report.mode.gaps == 1, "{:?}", report.mode);
    assert!(report.says("detached"), "{:?}", report.remarks);
    assert!(report.overhead.is_some_and(|overhead| overhead.share > 0.02), "{:?}", report.overhead);
    agent.write_line("stop");
    assert_eq!(agent.finish().status, 0);
}
