//! What the memory of a process grows by, the verdict, and when a limit is reached.

use std::{path::Path, process::Command};

use memtrace_tests::{Agent, Balance, CSource, Cgroup, Report, Running, can_trace, compile, fixture, remark};

const BALANCE: CSource<'_> = CSource { file: "balance.c", options: &["-O1", "-g", "-pthread"] };
const MB: i64 = 1 << 20;

/// The program, and where it is.
fn start(arguments: &[&str]) -> (Running, tempfile::TempDir) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = fixture::start_path(compile(directory.path(), "balance", BALANCE), arguments);
    (target, directory)
}

/// Whether this is the verdict on the program.
fn is(report: &Report, verdict: &str) -> bool {
    report.process.as_ref().is_some_and(|process| process.verdict == verdict)
}

/// The first report with this verdict on the program.
fn judged(arguments: &[&str], options: &[&str], verdict: &str) -> (Report, Balance) {
    judged_when(arguments, options, |report| is(report, verdict))
}

/// The first report of which this is true.
fn judged_when(arguments: &[&str], options: &[&str], is_it: impl Fn(&Report) -> bool) -> (Report, Balance) {
    let (mut target, _directory) = start(arguments);
    let mut agent = Agent::attach_with(&[target.pid()], options);
    target.write_line("go");
    let report = agent.report_when(is_it);
    let process = report.process.clone().expect("a balance");
    // Parts add up, each rounded.
    let parts: i64 =
        process.grown_bytes.iter().filter(|(name, _)| *name != "rss").map(|(_, bytes)| bytes).sum();
    assert!((parts - process.grown_bytes["rss"]).abs() < 8, "{process:#?}");
    (report, process)
}

#[test]
fn live_blocks_that_grow_are_a_leak() {
    if !can_trace() {
        return;
    }
    let (_, process) = judged(&["blocks", "262144"], &["--leak-check", "off"], "leak");
    assert!(process.blocks_bytes_per_second > 0.7 * process.rss_bytes_per_second, "{process:#?}");
}

/// What blocks hold that are not counted is not what the allocator keeps.
#[test]
fn blocks_that_are_not_counted_are_not_kept_by_the_allocator() {
    if !can_trace() {
        return;
    }
    for (options, why, how) in [
        (["--max-live", "100"], "table_full", "--max-live"),
        (["--max-size", "4000"], "size_filter", "--max-size"),
    ] {
        let options = [&options[..], &["--leak-check", "off"]].concat();
        let (report, process) = judged(&["blocks", "262144"], &options, "unseen");
        assert_eq!(process.uncounted.as_deref(), Some(why), "{process:#?}");
        assert!(process.verdict_text.starts_with("NOT COUNTED"), "{process:#?}");
        assert!(process.verdict_text.contains(how), "{process:#?}");
        let [kept, unexplained] = ["kept", "unexplained"].map(|name| process.grown_bytes[name]);
        assert!(kept < MB && unexplained > 4 * kept, "{process:#?}");
        let verdicts: Vec<_> = report.stacks.iter().filter_map(|stack| stack.verdict.as_deref()).collect();
        assert!(
            why != "table_full" || verdicts.iter().all(|&verdict| verdict == "too_early"),
            "{verdicts:?}"
        );
    }
}

#[test]
fn freed_memory_below_a_living_block_is_the_allocators() {
    if !can_trace() {
        return;
    }
    let (_, process) = judged(&["kept", "65536"], &[], "kept_by_allocator");
    assert!(process.grown_bytes["kept"] > 100 * MB && process.grown_bytes["blocks"] < MB, "{process:#?}");
    assert!(process.verdict_text.contains("malloc_trim"), "{process:#?}");
}

/// What windows see of it is too little to go by: the allocators themselves say what they have handed out.
#[test]
fn in_windows_allocators_are_asked() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = compile(directory.path(), "balance", BALANCE);
    let jemalloc = Path::new("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2");
    if !jemalloc.exists() {
        remark("skipped: jemalloc is not installed");
    }
    let preloads = [None, Some(jemalloc)];
    for preload in preloads.into_iter().filter(|library| library.is_none_or(Path::exists)) {
        let mut command = Command::new(&program);
        command.args(["blocks", "262144", "300000"]);
        command.env("LD_PRELOAD", preload.unwrap_or(Path::new("")));
        let mut target = Running::spawn(&mut command);
        let _: String = target.line_with("ready");
        let mut agent = Agent::attach_with(&[target.pid()], &[]);
        target.write_line("go");
        let report = agent.report_when(|report| {
            let known = |of: &Balance| of.blocks_known == "measured" && of.verdict != "too_early";
            report.process.as_ref().is_some_and(known)
        });
        let process = report.process.expect("a balance");
        let [rss, blocks, kept] = ["rss", "blocks", "kept"].map(|name| process.grown_bytes[name]);
        assert!(
            blocks as f64 > 0.8 * rss as f64 && (kept as f64) < 0.2 * rss as f64,
            "{preload:?} {process:#?}"
        );
        assert_eq!(process.verdict, "leak", "{process:#?}");
    }
}

/// A table is filled at once and stays: most of that falls into a gap, as it would cost more than it may.
#[test]
fn blocks_of_a_gap_are_not_kept_by_the_allocator() {
    if !can_trace() {
        return;
    }
    for options in [&[][..], &["--leak-check", "off"]] {
        let (report, process) = judged_when(&["burst", "40000000"], options, |report| {
            report.process.as_ref().is_some_and(|of| of.verdict != "too_early") && report.mode.gaps > 0
        });
        let [rss, blocks, kept] = ["rss", "blocks", "kept"].map(|name| process.grown_bytes[name]);
        assert!(rss > 40 * MB && blocks > 30 * MB && kept < 10 * MB, "{process:#?} {:#?}", report.mode);
        assert_eq!(process.verdict, "no_leak", "{process:#?}");
    }
}

#[test]
fn mappings_are_followed_with_and_without_windows() {
    if !can_trace() {
        return;
    }
    let growing = |report: &Report| {
        let first = report.mappings.as_ref().and_then(|mappings| mappings.stacks.first());
        first.is_some_and(|stack| stack.verdict.as_deref() == Some("growing"))
    };
    // So many blocks come and go that there are only windows.
    for churn in ["0", "300000"] {
        let (report, process) = judged_when(&["mapping", "262144", churn], &[], |report| {
            is(report, "mappings") && growing(report)
        });
        assert!(process.verdict_text.starts_with("MAPPINGS in leak_mapping: "), "{process:#?}");
        assert_eq!(report.mode.gaps > 0, churn != "0", "{:#?}", report.mode);
        let mappings = report.mappings.expect("mappings");
        let first = mappings.stacks.first().and_then(|stack| stack.frames.first()?.function.clone());
        assert_eq!(
            (first.as_deref(), process.grown_bytes["unexplained"]),
            (Some("leak_mapping"), 0),
            "{process:#?}"
        );
    }
}

#[test]
fn shared_memory_and_what_is_not_seen() {
    if !can_trace() {
        return;
    }
    let (_, process) = judged(&["shared", "262144"], &[], "shared_memory");
    assert!(process.grown_bytes["shared"] > MB, "{process:#?}");
    let (_, process) = judged(&["unseen", "524288"], &[], "unseen");
    assert!(process.grown_bytes["unexplained"] > MB, "{process:#?}");
}

#[test]
fn threads_that_are_never_joined() {
    if !can_trace() {
        return;
    }
    let (report, process) = judged(&["threads", "2097152"], &[], "threads");
    let mappings = report.mappings.expect("mappings");
    let stacks = mappings.stacks.iter().find(|stack| stack.kind == "thread_stacks").expect("stacks");
    assert!(
        stacks.ranges > 20 && stacks.ended_threads.is_some_and(|ended| ended + 2 > stacks.ranges),
        "{stacks:#?}"
    );
    assert!(process.verdict_text.contains("created by start_worker"), "{process:#?}");
}

#[test]
fn children_are_named_with_their_growth() {
    if !can_trace() {
        return;
    }
    let (mut target, _directory) = start(&["prefork", "262144"]);
    target.write_line("go");
    let mut agent = Agent::attach_with(&[target.pid()], &[]);
    let grows = |report: &Report| {
        report
            .process
            .as_ref()
            .is_some_and(|process| process.verdict == "no_leak" && process.children_grown_bytes > MB)
    };
    let process = agent.report_when(grows).process.expect("a balance");
    assert_eq!(process.children_found, 2);
    assert!(process.verdict_text.starts_with("NO LEAK SEEN IN THIS PROCESS"), "{process:#?}");
}

#[test]
fn the_limit_of_a_cgroup_is_forecast() {
    const LIMIT: u64 = 160 << 20;
    if !can_trace() {
        return;
    }
    let Some(group) = Cgroup::with_memory(LIMIT) else { return };
    let (mut target, _directory) = start(&["blocks", "262144"]);
    group.add(target.pid());
    let mut agent = Agent::attach_with(&[target.pid()], &["--leak-check", "off"]);
    target.write_line("go");
    let forecast = |report: &Report| {
        report.elapsed_s > 20.0 && report.process.as_ref().is_some_and(|of| of.seconds_to_limit.is_some())
    };
    let report = agent.report_when(forecast);
    let process = report.process.expect("a balance");
    let limit = process.limit.expect("a limit");
    assert_eq!((limit["kind"].as_str(), limit["bytes"].as_u64()), (Some("cgroup_max"), Some(LIMIT)));
    let seconds = process.seconds_to_limit.expect("a forecast");
    let begin = std::time::Instant::now();
    target.wait_until_dead();
    // The program leaks at a constant rate by its own clock, so its end is a measure, not a limit of time.
    let took = begin.elapsed().as_secs_f64();
    assert!((took - seconds).abs() < 0.2 * took.max(seconds), "said {seconds} s, took {took} s");
}
