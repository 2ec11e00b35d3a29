//! `memtrace run` traces what its command starts: scripts, wrappers, daemons.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    CSource, Finished, Report, Running, agent_path, assert_refused, can_trace, compile, memtrace,
    shared_directory,
};
use nix::sys::signal::Signal;

/// A server, and a static program without symbols that starts it.
struct Programs {
    _directory: tempfile::TempDir,
    server: String,
    starter: String,
}

fn programs() -> Programs {
    let directory = shared_directory();
    let make = |name: &str, options| {
        let path: PathBuf = compile(directory.path(), name, CSource { file: "server.c", options });
        path.display().to_string()
    };
    let (server, starter) = (make("server", &["-O1", "-g"]), make("starter", &["-O1", "-static", "-s"]));
    Programs { _directory: directory, server, starter }
}

/// Runs a command under the agent.
fn start(options: &[&str], command: &[&str]) -> Running {
    let mut agent = Command::new(agent_path());
    agent.args(["run", "-f", "json", "-i", "100ms", "-T", "0"]).args(options).arg("--").args(command);
    Running::spawn(&mut agent)
}

/// Reads reports until one that `is_it`.
fn report_when(running: &mut Running, is_it: impl Fn(&Report) -> bool) -> Report {
    loop {
        let report = Report::parse(&running.line_with("{"));
        if is_it(&report) {
            return report;
        }
        assert!(!report.last, "no such report; the last is {report:#?}");
    }
}

/// The process that has kept many blocks, and the size of each.
fn keeper(report: &Report) -> Option<(u32, u64)> {
    let keeps = |name: Option<&str>| name == Some("keep");
    let mut stacks = report.stacks.iter();
    let stack = stacks.find(|stack| stack.frames.iter().any(|frame| keeps(frame.function.as_deref())))?;
    (stack.blocks > 20).then_some((stack.pid, stack.bytes / stack.blocks))
}

fn keeps(report: &Report) -> bool {
    keeper(report).is_some()
}

/// The last report of a session that has ended.
fn last_report(finished: &Finished) -> Report {
    let line = finished.stdout.lines().rfind(|line| line.starts_with('{'));
    Report::parse(line.unwrap_or_else(|| panic!("no report: {}{}", finished.stdout, finished.stderr)))
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

#[test]
fn scripts_and_wrappers() {
    if !can_trace() {
        return;
    }
    let Programs { server, starter, .. } = &programs();
    let in_shell = format!("{server} serve; exit 5");
    let cases: [(&[&str], i32); 6] = [
        (&["/bin/sh", "-c", &in_shell], 5),
        (&["timeout", "300", server, "serve"], 0),
        (&["nice", "env", "MODE=prod", server, "serve"], 0),
        (&["su", "-s", "/bin/sh", "nobody", "-c", &in_shell], 5),
        (&[server, "start", server, "serve"], 0),
        // Without an allocator itself.
        (&[starter, "start", server, "serve"], 0),
    ];
    for (command, status) in cases {
        let mut running = start(&[], command);
        let report = report_when(&mut running, keeps);
        let (pid, size) = keeper(&report).expect("a server");
        assert_eq!((name_of(pid).as_str(), size), ("server", 512), "{command:?}");
        let finished = running.finish();
        assert_eq!(finished.status, status, "{command:?}: {}", finished.stderr);
        let last = last_report(&finished);
        assert!(last.last && keeper(&last).is_some_and(|(of, _)| of == pid), "{command:?}: {last:#?}");
        assert_eq!(last.mode.exact, command[0] != starter, "{command:?}: {:?}", last.remarks);
        let waits = finished.stderr.contains("waiting for a process that it starts");
        assert_eq!(
            (waits, last.says("no_allocator")),
            (command[0] == starter, command[0] == starter),
            "{command:?}"
        );
    }
}

/// Only the command is checked for leaks, and what is said of others is that they were not.
#[test]
fn the_check_is_of_the_command() {
    if !can_trace() {
        return;
    }
    let Programs { server, .. } = &programs();
    let mut running = start(&["--error-exitcode", "99"], &[server, "start", server, "serve"]);
    let _ = report_when(&mut running, keeps);
    let finished = running.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stderr.contains("of 1 process that it started"), "{}", finished.stderr);
    let last = last_report(&finished);
    let check = last.leak_check.as_ref().expect("a check");
    assert!(check.complete, "{check:?}");
    let alone = last.remark("checked_alone").expect("a remark");
    assert_eq!(alone.value("others").as_u64(), Some(1));
    assert_eq!(check.pid, last.target.pids.first().copied());
    assert!(
        last.stacks.iter().all(|stack| stack.blocks < 20 || stack.lost_blocks.is_none_or(|lost| lost == 0))
    );
}

/// What the command leaves running is traced on, until Ctrl-C.
#[test]
fn daemons() {
    if !can_trace() {
        return;
    }
    let Programs { server, .. } = &programs();
    for checks in ["auto", "off"] {
        let mut running = start(&["--leak-check", checks], &[server, "daemon"]);
        let report = report_when(&mut running, |report| keeps(report) && report.says("exited"));
        let (pid, size) = keeper(&report).expect("a daemon");
        assert_eq!(size, 512);
        assert_ne!(report.target.pids.first(), Some(&pid), "the command has exited");
        assert!(name_of(pid) == "server");
        // What is announced needs a second.
        let later = report.elapsed_s + 2.5;
        let _ = report_when(&mut running, |report| report.elapsed_s > later);
        running.signal(Signal::SIGINT);
        running.wait_until_dead();
        assert_eq!(name_of(pid), "server", "it goes on");
        let finished = running.finish();
        assert_eq!(finished.status, 3, "{}", finished.stderr);
        let last = last_report(&finished);
        assert!(last.last && keeper(&last).is_some_and(|(of, _)| of == pid), "{last:#?}");
        for words in
            [format!("tracing goes on of process {pid} (server)"), format!("left running: {pid} (server)")]
        {
            assert!(finished.stderr.contains(&words), "{words}: {}", finished.stderr);
        }
    }
}

/// The session ends when the last process does.
#[test]
fn a_daemon_ends_the_session() {
    if !can_trace() {
        return;
    }
    let Programs { server, .. } = &programs();
    let mut running = start(&[], &[server, "daemon"]);
    let report = report_when(&mut running, |report| keeps(report) && report.says("exited"));
    let finished = running.finish();
    assert_eq!(finished.status, 3, "{}", finished.stderr);
    assert!(!finished.stderr.contains("left running:"), "{}", finished.stderr);
    assert_eq!(keeper(&last_report(&finished)), keeper(&report));
}

#[test]
fn the_command_alone_if_that_is_wanted() {
    if !can_trace() {
        return;
    }
    let Programs { server, starter, .. } = &programs();
    let script = format!("{server} serve </dev/null; exit 5");
    let finished = start(&["--no-follow"], &["/bin/sh", "-c", &script]).finish();
    assert_eq!(finished.status, 5, "{}", finished.stderr);
    let last = last_report(&finished);
    assert_eq!((last.target.pids.len(), last.losses.children_not_traced), (1, 1));
    assert!(!last.says("followed"), "{:?}", last.remarks);
    for options in [&["--no-follow"][..], &["--error-exitcode", "9"]] {
        let mark = format!("{server}.ran");
        let arguments = [&["run"], options, &["--", starter, "start", "/usr/bin/touch", &mark]].concat();
        assert_refused(&memtrace(arguments), 1, "no allocator");
        assert!(!Path::new(&mark).exists(), "{options:?}: it was run");
    }
}

/// Children that live for a moment are neither in the way nor in the figures' way.
#[test]
fn short_lived_children() {
    if !can_trace() {
        return;
    }
    let Programs { server, .. } = &programs();
    let script = format!(
        "for i in 1 2 3 4 5 6 7 8 9 0; do for j in 1 2 3 4; do /bin/true; done; done; {server} serve; exit 0"
    );
    let mut running = start(&[], &["/bin/sh", "-c", &script]);
    let _ = report_when(&mut running, keeps);
    let finished = running.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let last = last_report(&finished);
    assert!(keeps(&last), "{last:#?}");
    let followed = last.remark("followed").and_then(|remark| remark.value("followed").as_u64());
    assert_eq!(followed.unwrap_or(0) + last.losses.children_not_traced, 41, "{:?}", last.remarks);
    // A child that has ended was not refused anything.
    assert!(!last.says("attach_refused") && !last.says("attached_late"), "{:?}", last.remarks);
}
