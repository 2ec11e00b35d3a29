//! Nested calls count once, and calls that are left without returning break nothing.

use memtrace_tests::{Agent, CSource, Report, Totals, can_trace, compile, fixture};

/// What `interposer.c` does a round each.
const ROUNDS: u64 = 60;

/// With the agent's own choice, nothing is lost where a call is left: its exits are probed, and it has handed out nothing.
/// With return probes a call that does not return is one whose outcome is unknown.
const PROBES: [(&[&str], u64); 2] = [(&[], 0), (&["--return-probes"], 1)];

fn interposer(what: &str, options: &[&str], agent: &[&str]) -> Report {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "interposer.c", options };
    let program = compile(directory.path(), "interposer", source);
    let mut target = fixture::start_path(program, &[what]);
    let agent = Agent::attach(&[target.pid()], agent);
    fixture::work(&mut target);
    agent.interrupt()
}

const UNOPTIMIZED: &[&str] = &["-O0", "-g"];
/// The interposed functions end in jumps to the C library's.
const OPTIMIZED: &[&str] = &["-O2", "-g", "-fno-builtin"];

#[track_caller]
fn assert_kept(report: &Report, kept: &[(&str, u64, u64)]) {
    for &(function, size, blocks) in kept {
        assert_eq!(
            report.called_from(function),
            Totals::kept(size * blocks, blocks),
            "{function}; all: {:?}; {:?}",
            report.callers(),
            report.losses
        );
    }
}

/// A program's own `malloc` that calls the C library's: one block, and the program's code is its caller.
#[test]
fn interposed_functions_count_once() {
    if !can_trace() {
        return;
    }
    for options in [UNOPTIMIZED, OPTIMIZED] {
        let report = interposer("plain", options, &[]);
        let kept = [
            ("keep_plain", 100, ROUNDS),
            ("keep_cleared", 200, ROUNDS),
            ("keep_grown", 40_000, ROUNDS),
            ("grow_from", 0, 0),
            ("keep_nothing", 0, 0),
            ("malloc", 0, 0),
            ("calloc", 0, 0),
            ("realloc", 0, 0),
        ];
        assert_kept(&report, &kept);
        assert_eq!(report.outstanding.blocks, 3 * ROUNDS, "{:?}", report.callers());
        assert!(report.losses.is_exact(), "{:?}", report.losses);
    }
}

/// A signal handler jumps out of `malloc`; what is allocated afterwards, deeper, as deep, and less deep, counts.
#[test]
fn longjmp_out_of_malloc() {
    if !can_trace() {
        return;
    }
    for (options, (agent, lost)) in
        [UNOPTIMIZED, OPTIMIZED].into_iter().flat_map(|options| PROBES.map(|probes| (options, probes)))
    {
        let report = interposer("jump", options, agent);
        let kept = [
            ("keep_shallow", 600, ROUNDS),
            ("keep_deep", 700, ROUNDS + ROUNDS.div_ceil(3)),
            ("keep_same", 800, ROUNDS + ROUNDS / 3),
            ("lose", 0, 0),
        ];
        assert_kept(&report, &kept);
        assert_eq!(report.losses.in_flight_lost, lost * ROUNDS);
    }
}

/// Out of `realloc`: the old block stays, and can be freed.
#[test]
fn longjmp_out_of_realloc() {
    if !can_trace() {
        return;
    }
    for (agent, lost) in PROBES {
        let report = interposer("jump-realloc", UNOPTIMIZED, agent);
        let kept = [
            ("keep_old", 1000, ROUNDS),
            ("keep_shallow", 600, 2 * ROUNDS),
            ("free_old", 0, 0),
            ("lose_realloc", 0, 0),
        ];
        assert_kept(&report, &kept);
        assert_eq!(report.losses.in_flight_lost, lost * 2 * ROUNDS);
    }
}

/// The same, where the block is freed before the thread allocates again.
#[test]
fn free_right_after_longjmp_out_of_realloc() {
    if !can_trace() {
        return;
    }
    for (agent, lost) in PROBES {
        let report = interposer("free-after-jump", UNOPTIMIZED, agent);
        assert_kept(&report, &[("keep_shallow", 600, ROUNDS), ("free_old", 0, 0), ("lose_realloc", 0, 0)]);
        assert_eq!(report.losses.in_flight_lost, lost * ROUNDS);
        assert_eq!(report.losses.missed_frees, 0);
    }
}

/// A thread cancelled within `malloc` or `realloc`: counted as lost, and the old block can be freed.
#[test]
fn threads_cancelled_in_flight() {
    if !can_trace() {
        return;
    }
    for (agent, lost) in PROBES {
        let report = interposer("cancel", UNOPTIMIZED, agent);
        let kept = [
            ("keep_old", 1000, ROUNDS),
            ("keep_shallow", 600, ROUNDS),
            ("free_old", 0, 0),
            ("lose", 0, 0),
            ("lose_realloc", 0, 0),
        ];
        assert_kept(&report, &kept);
        assert_eq!(report.losses.in_flight_lost, lost * 2 * ROUNDS);
    }
}
