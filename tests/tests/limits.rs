//! Full tables lose what they have no room for, say so, and break nothing.

use memtrace_tests::{Agent, CSource, Totals, can_trace, compile, fixture};

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
