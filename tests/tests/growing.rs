//! Who holds lists that grow while they are looked at: their newest entries are younger than any list of blocks.

use std::process::Command;

use memtrace_tests::{Agent, CSource, HeapReport, Report, Running, can_trace, compile, fixture, memtrace};

/// The functions of growing.cpp that grow a list, and what holds it.
const HELD: [(&str, &str); 2] = [("add_to_log", "g_log"), ("add_session", "g_server")];

fn start() -> (tempfile::TempDir, Running) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let options = ["-O1", "-g", "-std=c++17", "-fno-builtin"];
    let program = compile(directory.path(), "growing", CSource { file: "growing.cpp", options: &options });
    (directory, fixture::start_path(program, &[]))
}

fn end(mut target: Running) {
    target.close_stdin();
    assert_eq!(target.finish().status, 0);
}

fn assert_held(report: &Report) {
    for (function, name) in HELD {
        let holder = report.holder(function).unwrap_or_else(|| panic!("{function}: {report:?}"));
        assert_eq!((holder.root.as_str(), holder.name.as_deref()), ("data", Some(name)), "{report:?}");
        assert!(holder.share > 0.9, "{holder:?}");
    }
}

/// Whether a check has decided on blocks of both lists.
fn is_checked(report: &Report) -> bool {
    report.lost("forget").blocks > 0 && HELD.iter().all(|(function, _)| report.lost(function).checked > 0)
}

#[test]
fn holders_are_named_while_every_call_is_counted() {
    if !can_trace() {
        return;
    }
    let (_directory, target) = start();
    let options = ["--max-overhead", "off", "--leak-check", "always"];
    let mut agent = Agent::attach_with(&[target.pid()], &options);
    assert_held(&agent.report_when(is_checked));
    let _ = agent.interrupt();
    end(target);
}

#[test]
fn holders_are_named_in_windows() {
    if !can_trace() {
        return;
    }
    let (_directory, target) = start();
    let options = ["--max-overhead", "10%", "--sample", "off", "--leak-check", "always"];
    let mut agent = Agent::attach_with(&[target.pid()], &options);
    let report = agent.report_when(|report| report.mode.gaps >= 3 && is_checked(report));
    assert_held(&report);
    let _ = agent.interrupt();
    end(target);
}

#[test]
fn a_scan_names_them() {
    if !can_trace() {
        return;
    }
    let (_directory, target) = start();
    // Enough to be listed.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let finished = memtrace(["scan", "-f", "json", &target.pid().to_string()]);
    let heap = &HeapReport::all(&finished.stdout)[0].heap;
    for (_, name) in HELD {
        let held = heap.held_by.iter().find(|held| held.name.as_deref() == Some(name));
        assert!(held.is_some_and(|held| held.root == "data" && held.blocks > 100), "{name}: {heap:?}");
    }
    end(target);
}

/// A module's list is reached from the interpreter's own state, which is what a tracer of native code can name.
#[test]
fn a_python_list_is_held_by_the_interpreter() {
    if !can_trace() {
        return;
    }
    let script = [
        "import sys",
        "kept = []",
        "print('ready', flush=True)",
        "for line in sys.stdin:",
        "    kept.extend(bytearray(400) for _ in range(500))",
        "    print('done', flush=True)",
    ]
    .join("\n");
    let mut target =
        Running::spawn(Command::new("python3").args(["-c", &script]).env("PYTHONMALLOC", "malloc"));
    target.line_with("ready");
    let mut agent = Agent::attach(&[target.pid()], &["--leak-check", "always"]);
    target.write_line("more");
    target.line_with("done");
    let report = agent.report_when(|report| {
        report.stacks.iter().any(|stack| stack.blocks > 300 && !stack.held_by.is_empty())
    });
    let stack = report
        .stacks
        .iter()
        .find(|stack| stack.blocks > 300 && !stack.held_by.is_empty())
        .expect("their stack");
    let held = &stack.held_by[0];
    assert_eq!((held.root.as_str(), stack.lost_blocks), ("data", Some(0)), "{stack:#?}");
    assert!(held.name.as_deref() == Some("_PyRuntime") && held.share > 0.9, "{held:?}");
    let _ = agent.interrupt();
}
