//! Verdicts on programs of the corpus, each with one report at the end.

use std::{path::Path, process::Command};

use memtrace_tests::{Report, Running, Stack, can_trace, memtrace, run_tool};

/// Traces a program of `tests/corpus` and returns the report.
fn report(file: &str, options: &[&str]) -> Report {
    let directory = tempfile::tempdir().expect("a directory");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(file);
    let program = directory.path().join("program");
    let compiler = if file.ends_with(".cpp") { "c++" } else { "cc" };
    let (source, path) = (source.to_string_lossy(), program.to_string_lossy());
    run_tool(compiler, &["-g", "-O0", "-w", "-pthread", "-o", &path, &source]);
    let target = Running::spawn(&mut Command::new(&program));
    let pid = target.pid().to_string();
    let common = ["attach", &pid, "--format", "json", "--top", "0", "--interval", "1h", "--duration", "16s"];
    let finished = memtrace([&common, options].concat());
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    Report::parse(finished.stdout.lines().last().expect("a report"))
}

/// The stack with a frame of that function that holds most.
fn of<'a>(report: &'a Report, function: &str) -> &'a Stack {
    let has = |stack: &&Stack| {
        stack.frames.iter().any(|frame| frame.function.as_deref().is_some_and(|name| name.contains(function)))
    };
    let stacks = report.stacks.iter().filter(has);
    stacks.max_by_key(|stack| stack.bytes).unwrap_or_else(|| panic!("no stack of {function}: {report:#?}"))
}

fn verdict<'a>(report: &'a Report, function: &str) -> &'a str {
    of(report, function).verdict.as_deref().expect("a verdict")
}

#[test]
fn a_block_in_a_thousand_grows_and_comes_first() {
    if !can_trace() {
        return;
    }
    let report = report("one_in_thousand.c", &["--max-overhead", "off"]);
    assert_eq!(verdict(&report, "make_request"), "growing");
    assert_eq!(report.stacks[0].id, of(&report, "make_request").id);
    let stack = of(&report, "make_request");
    let lifetimes = stack.lifetimes.as_ref().expect("lifetimes");
    let freed: u64 = lifetimes.iter().map(|lifetime| lifetime.blocks).sum();
    // The program goes on while the report is made.
    assert!(freed.abs_diff(stack.freed_blocks) <= freed / 20, "{freed} of {}", stack.freed_blocks);
}

#[test]
fn a_lost_block_is_lost_and_a_cache_is_steady() {
    if !can_trace() {
        return;
    }
    let within_budget = report("busy_service.cpp", &["--leak-check", "always"]);
    assert_eq!(verdict(&within_budget, "forget_session"), "lost");
    assert_eq!(within_budget.stacks[0].id, of(&within_budget, "forget_session").id);
    // At the edge of the default budget, windows may have seen every block of the cache freed.
    let report = report("busy_service.cpp", &["--leak-check", "always", "--max-overhead", "off"]);
    assert_eq!(verdict(&report, "forget_session"), "lost");
    assert_eq!(verdict(&report, "Cache::put"), "steady");
    assert!(of(&report, "Cache::put").bytes > of(&report, "forget_session").bytes);
    assert_eq!(report.stacks[0].id, of(&report, "forget_session").id);
}

#[test]
fn tables_of_the_start_are_start_up() {
    if !can_trace() {
        return;
    }
    let report = report("startup_tables.c", &["--max-overhead", "off", "--sort", "bytes"]);
    assert_eq!(verdict(&report, "build"), "start_up");
}

#[test]
fn without_lifetimes_there_are_none() {
    if !can_trace() {
        return;
    }
    let report = report("listeners.c", &["--max-overhead", "off", "--no-lifetimes"]);
    assert_eq!(verdict(&report, "register_listener"), "growing");
    assert!(report.stacks.iter().all(|stack| stack.lifetimes.is_none()));
}
