//! `memtrace attach --when`: nothing is traced until a condition holds.

use std::{fs, path::Path, process::Command};

use memtrace_tests::{
    CSource, Cgroup, Finished, Report, Running, agent_path, assert_usage, can_trace, compile, limit,
    memtrace, proc, remark,
};

/// A program that fills 24 MiB when it gets a line (places.c).
fn program(directory: &Path, what: &str) -> Running {
    let program = compile(directory, "places", CSource { file: "places.c", options: &["-O1"] });
    let mut running = Running::spawn(Command::new(program).arg(what));
    running.line_with("ready");
    running
}

/// An agent that waits; what it traced is copied to `copy`.
fn waiting(directory: &Path, pid: u32, condition: &str, options: &[&str]) -> Running {
    let report = directory.join("report");
    let mut command = Command::new(agent_path());
    command.args(["attach", &pid.to_string(), "--when", condition, "-d", "500ms", "-f", "json", "-O"]);
    command.arg(report).args(["--exec", "cp \"$1\" \"$1.part\" && mv \"$1.part\" \"$1.copy\""]).args(options);
    let agent = Running::spawn(&mut command);
    // It takes signals itself from then on.
    wait_for("it waits", || is_waiting(agent.pid()));
    agent
}

/// Whether it is in `sigtimedwait`.
fn is_waiting(pid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    call.split(' ').next() == Some(&libc::SYS_rt_sigtimedwait.to_string())
}

fn wait_for(what: &str, is_true: impl Fn() -> bool) {
    let end = std::time::Instant::now() + limit();
    while !is_true() {
        assert!(std::time::Instant::now() < end, "{what}");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
}

/// It waits, fires once, and ends with the program.
fn assert_fires(what: &str, condition: &str, prepare: impl Fn(&Running)) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut program = program(directory.path(), what);
    prepare(&program);
    let agent = waiting(directory.path(), program.pid(), condition, &["--cooldown", "1h"]);
    let copy = directory.path().join("report.copy");
    // Some looks.
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert!(proc::children(agent.pid()).is_empty() && !copy.exists(), "{condition} fired at once");
    program.write_line("");
    program.line_with("done");
    wait_for(condition, || copy.exists());
    let report = fs::read_to_string(&copy).expect("a report");
    let _: Report = serde_json::from_str(report.trim()).expect("a report");
    let _ = program.finish();
    let Finished { status, stderr, .. } = agent.finish();
    assert!(
        status == 0 && stderr.contains("waiting for") && stderr.contains("tracing"),
        "{status}: {stderr}"
    );
}

#[test]
fn a_size_is_reached() {
    if can_trace() {
        assert_fires("anonymous", "rss>16MiB", |_| {});
    }
}

#[test]
fn it_grows() {
    if can_trace() {
        assert_fires("slow", "growth>1MiB/s for 3s", |_| {});
    }
}

#[test]
fn a_limit_is_near() {
    if !can_trace() {
        return;
    }
    let Some(group) = Cgroup::with_memory(32 << 20) else {
        remark("skipped: no hierarchy with the memory controller");
        return;
    };
    assert_fires("anonymous", "limit<50%", |program| group.add(program.pid()));
}

#[test]
fn the_status_tells_that_it_never_fired() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = program(directory.path(), "anonymous");
    let agent = waiting(directory.path(), program.pid(), "rss>1TiB", &[]);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let _ = program.finish();
    let Finished { status, stderr, .. } = agent.finish();
    assert!(status == 3 && stderr.contains("all processes have ended"), "{status}: {stderr}");
}

#[test]
fn a_signal_ends_waiting() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = program(directory.path(), "anonymous");
    let agent = waiting(directory.path(), program.pid(), "rss>1TiB", &[]);
    agent.signal(nix::sys::signal::Signal::SIGTERM);
    assert_eq!(agent.finish().status, 3);
}

#[test]
fn wrong_conditions_are_refused() {
    for (options, why) in [
        (["--when", "rss<1GiB"], "is no condition"),
        (["--when", "growth>1MiB"], "per second"),
        (["--exec", "true"], "--when"),
    ] {
        let finished = memtrace([&["attach", "1"], options.as_slice()].concat());
        assert_usage(&finished);
        assert!(finished.stderr.contains(why), "{}", finished.stderr);
    }
}
