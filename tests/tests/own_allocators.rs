//! Allocators of a program's own in shapes that are easily misread: what is counted is right, and what is not counted is said.

use memtrace_tests::{Agent, CSource, Report, can_trace, compile, fixture};

const ROUNDS: u64 = 50;

fn traced(file: &'static str, shape: &str, agent: &[&str]) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = ["-O2", "-g", "-fno-builtin", "-fno-inline", "-fno-ipa-cp", "-fno-ipa-icf", shape];
    let program = compile(directory.path(), "own", CSource { file, options: &options });
    let mut target = fixture::start_path(program, &[]);
    let agent = Agent::attach_with(&[target.pid()], agent);
    fixture::work(&mut target);
    let report = agent.interrupt();
    target.write_line("end");
    assert_eq!(target.finish().status, 0);
    report
}

const EXACT: &[&str] = &["--max-overhead", "off"];

/// Functions that the report says are not traced.
fn untraced(report: &Report) -> Vec<String> {
    let remark = report.remark("functions_untraced");
    remark.into_iter().flat_map(|remark| remark.texts("functions")).map(str::to_owned).collect()
}

/// Where nobody can know what a way out returns, the function is left out, and the report says so.
#[test]
fn what_is_not_understood_is_said() {
    if !can_trace() {
        return;
    }
    for (file, shape) in
        [("own_allocator.c", "-DPOINTER"), ("own_allocator.c", "-DTABLE"), ("handler.cpp", "-DHANDLER")]
    {
        let report = traced(file, shape, EXACT);
        let untraced = untraced(&report);
        let is_own = |function: &String| function.starts_with("malloc (") && function.contains("own");
        assert!(untraced.iter().any(is_own), "{shape}: {:?}", report.remarks);
    }
}

/// What such a function gets from a traced one is shown, in every mode.
#[test]
fn what_a_left_out_function_hands_on_is_shown() {
    if !can_trace() {
        return;
    }
    for agent in [EXACT, &[]] {
        let report = traced("own_allocator.c", "-DCOUNTING", agent);
        let untraced = untraced(&report);
        assert!(untraced.iter().any(|function| function.starts_with("malloc (")), "{:?}", report.remarks);
        let kept = report.through("keep");
        assert_eq!((kept.bytes, kept.blocks), (1000 * ROUNDS, ROUNDS), "{agent:?}: {:?}", report.callers());
    }
}

/// A call that ended in a jump is not confused with a later, filtered one at the same place.
#[test]
fn a_call_that_was_left_is_not_settled_by_another() {
    if !can_trace() {
        return;
    }
    for agent in [&["--max-overhead", "off", "--min-size", "1000"][..], &["--min-size", "1000"]] {
        let report = traced("own_allocator.c", "-DSTALE", agent);
        assert_eq!(report.outstanding.blocks, 0, "{agent:?}: {:?}", report.callers());
    }
    let report = traced("own_allocator.c", "-DSTALE", EXACT);
    assert_eq!(report.through("keep").blocks, ROUNDS, "{:?}", report.callers());
    assert_eq!(report.through("lose_large").blocks, 0, "{:?}", report.callers());
}

/// A nested block that lies right before the outer one's is no part of it.
#[test]
fn a_neighbour_is_not_taken_back() {
    if !can_trace() {
        return;
    }
    let report = traced("own_allocator.c", "-DADJACENT", EXACT);
    let kept = report.through("keep");
    assert_eq!((kept.bytes, kept.blocks), (192 * ROUNDS, 2 * ROUNDS), "{:?}", report.callers());
}

/// A `realloc` that hands blocks on to another's: the old block is gone, whether the new one is counted or not.
#[test]
fn a_realloc_that_hands_on_gives_its_block_up() {
    if !can_trace() {
        return;
    }
    let report = traced("own_allocator.c", "-DWRAPPER", &["--max-overhead", "off", "--min-size", "1000"]);
    assert_eq!(report.outstanding.blocks, 0, "{:?}", report.callers());
    let report = traced("own_allocator.c", "-DWRAPPER", &["--sample", "128KiB"]);
    assert!(report.outstanding.bytes < 60_000 * ROUNDS / 2, "{:?}", report.callers());
    let report = traced("own_allocator.c", "-DWRAPPER", EXACT);
    let kept = report.through("keep");
    assert_eq!((kept.bytes, kept.blocks), (100 * ROUNDS, ROUNDS), "{:?}", report.callers());
}
