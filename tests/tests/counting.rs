//! Totals are exact: many threads, and every function of the family.

use memtrace_tests::{Agent, Report, Totals, can_trace, fixture};

/// Four threads, two million allocations, blocks freed by other threads: figures equal to the block.
#[test]
fn two_million_allocations_of_four_threads_ten_times() {
    if !can_trace() {
        return;
    }
    let runs = std::env::var("MEMTRACE_TEST_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    for run in 0..runs {
        let mut target = fixture::start("counting", &["4", "500000"]);
        let agent = Agent::attach(&[target.pid()], &[]);
        let truth = fixture::work(&mut target);
        let report = agent.interrupt();
        let truth: Vec<u64> = truth.split(' ').map(|word| word.parse().expect("a number")).collect();
        let [bytes, blocks, freed_bytes, freed_blocks] = truth[..] else {
            panic!("not four numbers: {truth:?}")
        };
        let expected = Totals {
            bytes,
            blocks,
            allocated_bytes: bytes + freed_bytes,
            allocated_blocks: blocks + freed_blocks,
            freed_bytes,
            freed_blocks,
        };
        assert_eq!(expected.allocated_blocks, 2_000_000);
        assert_eq!(report.called_from("churn"), expected, "run {run}: {:?}", report.losses);
        assert!(report.losses.is_exact(), "run {run}: {:?}", report.losses);
        // The agent does without what the kernel refuses; here it refuses nothing.
        assert!(report.mode.exact && report.mode.stacks == "cfi", "{:?}: {:?}", report.mode, report.remarks);
    }
}

fn family(options: &[&str]) -> Report {
    let mut target = fixture::start("family", &[]);
    let agent = Agent::attach(&[target.pid()], options);
    fixture::work(&mut target);
    agent.interrupt()
}

#[test]
fn every_function_counts_what_it_returns() {
    if can_trace() {
        check_family(&family(&[]));
    }
}

/// As kernels before 6.10 attach.
#[test]
fn the_same_by_perf_uprobes() {
    if can_trace() {
        check_family(&family(&["--perf-uprobes"]));
    }
}

#[test]
fn the_same_with_frame_pointers() {
    if can_trace() {
        check_family(&family(&["--stacks", "fp"]));
    }
}

/// Each function of the family, succeeding and failing.
fn check_family(report: &Report) {
    let kept = |function: &str, bytes: u64, blocks: u64| {
        let found = report.called_from(function);
        assert_eq!(found, Totals::kept(bytes, blocks), "{function}; all: {:?}", report.callers());
    };
    kept("calloc_kept", (0..7).map(|round| 10 * (100 + round)).sum(), 7);
    kept("realloc_growing", 700_000, 7);
    kept("realloc_shrinking", 70, 7);
    kept("realloc_of_null", 7 * 333, 7);
    kept("malloc_before_failure", 7 * 555, 7);
    kept("malloc_before_overflowed_shift", 3 * 7 * 99, 3 * 7);
    kept("posix_memalign_kept", 7 * 1234, 7);
    kept("aligned_alloc_kept", 7 * 512, 7);
    kept("memalign_kept", 7 * 700, 7);
    kept("valloc_kept", 7 * 800, 7);
    kept("pvalloc_kept", 7 * 900, 7);
    // `reallocarray` is counted where it ends, in `realloc`: the caller is one frame further out, if the
    // stack reaches it.
    let arrays = report
        .stacks
        .iter()
        .filter(|stack| stack.frames.iter().take(2).any(|frame| frame.name() == "reallocarray_kept"));
    assert_eq!(arrays.map(|stack| (stack.bytes, stack.blocks)).collect::<Vec<_>>(), [(7 * 111, 7)]);
    kept("malloc_before_overflow", 7 * 66, 7);
    kept("malloc_of_zero", 0, 7);
    for nothing in [
        "calloc_overflowing",
        "calloc_huge",
        "malloc_grown",
        "malloc_shrunk",
        "malloc_realloced_to_zero",
        "realloc_to_zero",
        "realloc_failing",
        "realloc_overflowed_shift",
        "malloc_freed_after_failure",
        "posix_memalign_misaligned",
        "posix_memalign_huge",
        "reallocarray_overflowing",
        "malloc_failing",
        "malloc_freed",
    ] {
        kept(nothing, 0, 0);
    }
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}
