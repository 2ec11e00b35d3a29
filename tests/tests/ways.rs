//! Ways to leave an allocating function other than by its return, or with another stack. The program that does it defines
//! its own `malloc`, so that there are no return probes; what it prints and how it ends must be as if it were untraced.
//! With return probes (`--return-probes`) the same ways show what these would do: the table in ARCHITECTURE.md.

use std::path::{Path, PathBuf};

use memtrace_tests::{Agent, CSource, Finished, Report, Totals, can_trace, compile, fixture, remark};

/// What `ways.cpp` does a round each.
const ROUNDS: u64 = 60;
const EXACT: &[&str] = &["--max-overhead", "off"];
/// Every block is sampled with a probability of about one half.
const SAMPLED: &[&str] = &["--sample", "256"];
const WINDOWS: &[&str] = &["--max-overhead", "0.01%"];

struct Run {
    finished: Finished,
    report: Option<Report>,
}

fn program(directory: &Path, options: &[&str]) -> PathBuf {
    let options = [options, &["-g"]].concat();
    compile(directory, "ways", CSource { file: "ways.cpp", options: &options })
}

/// Runs the program, traced with some options or not at all.
fn run(program: &Path, way: &str, agent: Option<&[&str]>) -> Run {
    let mut target = fixture::start_path(program, &[way]);
    let agent = agent.map(|options| Agent::attach_with(&[target.pid()], options));
    target.write_line("go");
    let said = target.line().is_some();
    let report = agent.map(Agent::interrupt);
    if said {
        target.write_line("end");
    }
    Run { finished: target.finish(), report }
}

/// Traced in every mode, unoptimized and optimized: it does what it does untraced. Returns the exact reports.
fn unharmed(way: &str) -> Vec<Report> {
    let mut reports = Vec::new();
    for options in [&["-O0"], &["-O2"]] {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let program = program(directory.path(), options);
        let untraced = run(&program, way, None).finished;
        assert_eq!(untraced.status, 3, "{}", untraced.stderr);
        for agent in [EXACT, SAMPLED, WINDOWS] {
            let traced = run(&program, way, Some(agent));
            assert_eq!(traced.finished.stdout, untraced.stdout, "{way} {options:?} {agent:?}");
            assert_eq!(traced.finished.status, untraced.status, "{way} {options:?} {agent:?}");
            assert_eq!(traced.finished.stderr, untraced.stderr, "{way} {options:?} {agent:?}");
            reports.extend(traced.report.filter(|_| agent == EXACT));
        }
    }
    reports
}

#[track_caller]
fn assert_kept(report: &Report, kept: &[(&str, u64, u64)]) {
    for &(function, size, blocks) in kept {
        let found = report.called_from(function);
        let all = report.callers();
        assert_eq!(found, Totals::kept(size * blocks, blocks), "{function}: {all:?} {:?}", report.losses);
    }
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// A way that leaves the function for good: nothing is handed out, and none of it counts as lost.
fn left_for_good(way: &str) {
    if !can_trace() {
        return;
    }
    for report in unharmed(way) {
        assert_kept(&report, &[("keep", 100, ROUNDS), ("keep_deep", 200, ROUNDS), ("lose", 0, 0)]);
    }
}

#[test]
fn exceptions() {
    left_for_good("exception");
}

#[test]
fn longjmp() {
    left_for_good("longjmp");
}

#[test]
fn setcontext() {
    left_for_good("setcontext");
}

#[test]
fn cancellation() {
    left_for_good("cancel");
}

#[test]
fn ends_of_threads() {
    left_for_good("thread-exit");
}

/// Two contexts are inside `malloc` at the same time.
#[test]
fn fibers() {
    if !can_trace() {
        return;
    }
    for report in unharmed("fiber") {
        // The last one is still inside.
        assert_kept(&report, &[("keep", 100, ROUNDS), ("keep_deep", 200, ROUNDS - 1)]);
    }
}

#[test]
fn vfork() {
    if !can_trace() {
        return;
    }
    for report in unharmed("vfork") {
        assert_kept(&report, &[("keep", 100, ROUNDS), ("keep_deep", 200, ROUNDS)]);
    }
}

/// A signal handler on a stack of its own allocates inside `malloc`.
#[test]
fn signals_on_another_stack() {
    if !can_trace() {
        return;
    }
    for report in unharmed("signal") {
        assert_kept(&report, &[("keep", 100, ROUNDS), ("keep_deep", 200, ROUNDS)]);
    }
}

/// A profiler's view of its own stack is what it was.
#[test]
fn backtraces() {
    if !can_trace() {
        return;
    }
    for report in unharmed("backtrace") {
        assert_kept(&report, &[("keep", 100, ROUNDS), ("keep_deep", 200, ROUNDS)]);
    }
}

/// What return probes do to the same program. It shows that these tests can fail, and keeps the table in ARCHITECTURE.md
/// true.
#[test]
fn return_probes_harm() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = program(directory.path(), &["-O0"]);
    let options = [EXACT, &["--return-probes"]].concat();
    let found = |way: &str| {
        let untraced = run(&program, way, None).finished;
        let traced = run(&program, way, Some(&options)).finished;
        match traced.status {
            3 if traced.stdout == untraced.stdout => "as untraced".to_owned(),
            3 => "other output".to_owned(),
            status => format!("status {status}"),
        }
    };
    let ways = [
        "exception",
        "longjmp",
        "setcontext",
        "fiber",
        "cancel",
        "thread-exit",
        "vfork",
        "signal",
        "backtrace",
    ];
    let table: Vec<(&str, String)> = ways.into_iter().map(|way| (way, found(way))).collect();
    remark(&format!("{table:?}"));
    let of = |way: &str| table.iter().find(|(name, _)| *name == way).map(|(_, found)| found.as_str());
    // SIGABRT.
    assert_eq!(of("exception"), Some("status 134"));
    for way in ["cancel", "thread-exit", "backtrace"] {
        assert_eq!(of(way), Some("other output"), "{way}");
    }
    // SIGILL or SIGSEGV, as it comes.
    assert!(of("fiber").is_some_and(|found| found.starts_with("status 13")), "{:?}", of("fiber"));
    for way in ["longjmp", "setcontext", "vfork", "signal"] {
        assert_eq!(of(way), Some("as untraced"), "{way}");
    }
}
