//! Targets that profile themselves: their profiles are disturbed, and memtrace warns before.

use std::{path::Path, process::Command};

use memtrace_tests::{CSource, Running, can_trace, compile, fixture_path, memtrace};

/// A program into which a library of that name is loaded.
fn start(directory: &Path, library: &str) -> Running {
    let source = CSource { file: "profiler.c", options: &["-shared", "-fPIC"] };
    let library = compile(directory, library, source);
    let mut target = Running::spawn(
        Command::new(fixture_path("lifecycle"))
            .arg("many")
            .env("LD_PRELOAD", library)
            .env_remove("MALLOC_CONF"),
    );
    let _: String = target.line_with("ready");
    target
}

/// By `attach` before it attaches, and by `check`.
#[test]
fn target_that_profiles_itself_is_warned_about() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    for (library, profiler) in [
        ("libjemalloc_stub.so", "jemalloc's heap profiler (prof:true in malloc_conf)"),
        ("libheaptrack_preload.so", "heaptrack (libheaptrack_preload is mapped)"),
    ] {
        let target = start(directory.path(), library);
        let pid = target.pid().to_string();
        let said = format!("memtrace: process {pid} profiles itself with {profiler}: ");
        let finished = memtrace(["attach", &pid, "-n", "1", "-i", "10ms"]);
        let lines: Vec<&str> = finished.stderr.lines().collect();
        let [first, second, ..] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(first.starts_with(&said), "{lines:?}");
        assert!(second.contains("attached to"), "{lines:?}");
        let checked = memtrace(["check", "--pid", &pid]).stdout;
        assert!(
            checked.contains(&format!("note process {pid} profiles itself with {profiler}: ")),
            "{checked}"
        );
    }
}

/// There is no warning for others.
#[test]
fn target_that_does_not_is_not() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let target = start(directory.path(), "libother.so");
    let finished = memtrace(["attach", &target.pid().to_string(), "-n", "1", "-i", "10ms"]);
    assert!(!finished.stderr.contains("profiles itself"), "{}", finished.stderr);
}
