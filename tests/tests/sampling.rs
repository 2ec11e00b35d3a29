//! Samples represent the rest without bias, and large blocks are always counted.

use memtrace_tests::{Agent, Report, Totals, can_trace, fixture};

/// With a mean no larger than any block, every block is certain: figures are those of an exact count.
fn certain(options: &[&str]) {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("family", &[]);
    let agent = Agent::attach(&[target.pid()], options);
    fixture::work(&mut target);
    let report = agent.interrupt();
    let kept = |function: &str, bytes: u64, blocks: u64| {
        let found = report.called_from(function);
        assert_eq!((found.bytes, found.blocks), (bytes, blocks), "{function}; all: {:?}", report.callers());
    };
    kept("calloc_kept", (0..7).map(|round| 10 * (100 + round)).sum(), 7);
    kept("realloc_growing", 700_000, 7);
    kept("realloc_of_null", 7 * 333, 7);
    kept("malloc_before_failure", 7 * 555, 7);
    kept("posix_memalign_kept", 7 * 1234, 7);
    kept("memalign_kept", 7 * 700, 7);
    kept("malloc_freed_after_failure", 0, 0);
    kept("malloc_realloced_to_zero", 0, 0);
    kept("malloc_freed", 0, 0);
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    assert!(!report.mode.exact);
}

#[test]
fn blocks_as_large_as_the_mean_are_certain() {
    certain(&["--sample", "64"]);
}

/// Without sessions, as kernels before 6.13 attach, and before 6.10.
#[test]
fn the_same_by_perf_uprobes() {
    certain(&["--sample", "64", "--perf-uprobes"]);
}

/// Four threads: what was allocated, and what is left, is within the error that the report gives.
#[test]
fn estimates_are_within_their_error() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("counting", &["4", "500000"]);
    let agent = Agent::attach(&[target.pid()], &["--sample", "1KiB"]);
    let truth = fixture::work(&mut target);
    let report = agent.interrupt();
    let truth: Vec<u64> = truth.split(' ').map(|word| word.parse().expect("a number")).collect();
    let [bytes, blocks, freed_bytes, freed_blocks] = truth[..] else { panic!("not four numbers: {truth:?}") };
    let found = report.called_from("churn");
    let doubt = report.uncertainty.expect("an estimate has an error");
    // The error given is 1.96 standard deviations at least: five of them, so that this fails once in two million runs.
    let five = |half_width: u64| half_width * 5 / 2;
    assert!(found.bytes.abs_diff(bytes) <= five(doubt.bytes), "{} for {bytes}: {doubt:?}", found.bytes);
    assert!(found.blocks.abs_diff(blocks) <= five(doubt.blocks), "{} for {blocks}: {doubt:?}", found.blocks);
    assert!(doubt.bytes < bytes && doubt.samples > 100, "{doubt:?}");
    // Half a billion bytes have a standard deviation of 0.14 %, two million blocks one of 0.3 %.
    let near = |found: u64, truth: u64, share: f64| (found as f64 / truth as f64 - 1.0).abs() < share;
    let Totals { allocated_bytes, allocated_blocks, .. } = found;
    assert!(
        near(allocated_bytes, bytes + freed_bytes, 0.007),
        "{allocated_bytes} for {}",
        bytes + freed_bytes
    );
    assert!(near(allocated_blocks, 2_000_000, 0.015), "{allocated_blocks} for 2,000,000");
    assert!(report.unknown_frees > freed_blocks / 3, "{} of {freed_blocks}", report.unknown_frees);
}

fn large(options: &[&str]) -> Report {
    let mut target = fixture::start("large", &[]);
    let agent = Agent::attach(&[target.pid()], options);
    fixture::work(&mut target);
    agent.interrupt()
}

/// Whether the outer call was sampled or not, memory that the allocator maps for blocks is not the program's.
#[test]
fn what_is_mapped_for_blocks_that_were_not_drawn_is_the_allocators() {
    if !can_trace() {
        return;
    }
    let report = large(&["--sample", "1MiB"]);
    let mappings = report.mappings.as_ref().expect("no windows");
    assert_eq!((mappings.bytes, mappings.ranges), (1 << 20, 1), "{mappings:#?}");
    let found = report.called_from("keep_large");
    let doubt = report.uncertainty.expect("an estimate has an error");
    assert!(found.bytes.abs_diff(300 * (200 << 10)) <= doubt.bytes * 5 / 2, "{found:?}, {doubt:?}");
    assert!(found.bytes != 300 * (200 << 10), "not a sample: {found:?}");
}

/// The same of what a filter leaves out.
#[test]
fn what_is_mapped_for_blocks_that_are_filtered_out_is_the_allocators() {
    if !can_trace() {
        return;
    }
    let report = large(&["--sample", "64", "--min-size", "1MiB"]);
    let mappings = report.mappings.as_ref().expect("no windows");
    assert_eq!((mappings.bytes, mappings.ranges), (1 << 20, 1), "{mappings:#?}");
    assert_eq!(report.called_from("keep_large"), Totals::default());
}
