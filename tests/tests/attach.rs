//! Attaching to what runs already: servers, several processes, processes that end, and those behind walls.

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    process::Command,
};

use memtrace_tests::{
    Agent, Report, Running, Totals, agent_path, can_trace, fixture, fixture_path, limit, shared_directory,
};
use nix::sys::signal::Signal;

/// Whether some stack begins with a named function.
fn names_a_function(report: &Report) -> bool {
    report.stacks.iter().any(|stack| !stack.caller().is_empty())
}

/// Keeps what it parses, a line's worth at a time.
const PYTHON: &str = r#"
import json, sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    for n in range(200):
        kept.append(json.loads('{"key": "%s", "values": [1, 2, 3]}' % ("x" * 2000)))
    print("answer", line.strip(), flush=True)
"#;

#[test]
fn python_at_work() {
    if !can_trace() {
        return;
    }
    let mut python = Running::spawn(Command::new("python3").args(["-c", PYTHON]));
    let _: String = python.line_with("ready");
    let mut agent = Agent::attach(&[python.pid()], &[]);
    for question in 0..5 {
        python.write_line(&format!("{question}"));
        assert_eq!(python.line_with("answer"), format!("answer {question}"));
    }
    let report = agent.report_when(|report| report.outstanding.bytes >= 5 * 200 * 2000);
    assert!(names_a_function(&report), "{:#?}", report.stacks);
    assert_eq!(report.target.pids, [python.pid()]);
    assert!(report.target.comm.starts_with("python"), "{}", report.target.comm);
    let heap = report.remark("heap_of_runtime").map(|remark| remark.value("runtime").clone());
    assert_eq!(heap, Some("python".into()), "{:?}", report.remarks);
    let report = agent.interrupt();
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    python.write_line("afterwards");
    assert_eq!(python.line_with("answer"), "answer afterwards");
}

/// A client of redis, one connection.
struct Redis(UnixStream);

impl Redis {
    fn ask(&mut self, command: &str) -> String {
        self.0.write_all(format!("{command}\r\n").as_bytes()).expect("redis reads");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).expect("redis answers");
            answer.extend(byte);
        }
        String::from_utf8_lossy(&answer).trim().to_owned()
    }
}

#[test]
fn redis_at_work() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("socket");
    let mut command = Command::new("redis-server");
    command
        .args(["--port", "0", "--save", "", "--unixsocket"])
        .arg(&socket)
        .arg("--dir")
        .arg(directory.path());
    let mut server = Running::spawn(&mut command);
    let _: String = server.line_with("eady to accept connections");
    let stream = UnixStream::connect(&socket).expect("redis listens");
    stream.set_read_timeout(Some(limit())).expect("a time limit");
    let mut redis = Redis(stream);
    let mut agent = Agent::attach(&[server.pid()], &[]);
    for key in 0..500 {
        assert_eq!(redis.ask("PING"), "+PONG");
        assert_eq!(redis.ask(&format!("SET key{key} {}", "x".repeat(1000))), "+OK");
    }
    let report = agent.report_when(|report| report.outstanding.bytes >= 500 * 1000);
    assert!(!report.target.allocators.is_empty());
    assert!(report.stacks.iter().all(|stack| !stack.frames.is_empty()), "{:#?}", report.stacks);
    assert!(
        report.stacks.iter().any(|stack| stack.frames[0].module.contains("redis")),
        "{:#?}",
        report.stacks
    );
    let report = agent.interrupt();
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    assert_eq!(redis.ask("PING"), "+PONG");
}

#[test]
fn two_processes_together() {
    if !can_trace() {
        return;
    }
    let mut targets = [fixture::start("lifecycle", &["fork"]), fixture::start("lifecycle", &["threads"])];
    let pids = [targets[0].pid(), targets[1].pid()];
    let agent = Agent::attach(&pids, &[]);
    for target in &mut targets {
        fixture::work(target);
    }
    let report = agent.interrupt();
    assert_eq!(report.target.pids, pids);
    assert_eq!(report.called_from("keep_before"), Totals::kept(500 * 60, 500), "{:?}", report.callers());
    assert_eq!(report.called_from("keep_in_thread").bytes, 100 * 90, "{:?}", report.callers());
}

/// The last report of a target that exits has its symbols, also when the exit follows the allocations at once.
#[test]
fn target_that_exits() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["spawn"]);
    let agent = Agent::attach(&[target.pid()], &[]);
    target.write_line("go");
    assert_eq!(target.finish().status, 0);
    let report = agent.last_report();
    assert_eq!(report.called_from("keep_before"), Totals::kept(500 * 60, 500), "{:?}", report.callers());
}

/// So has that of one that is killed while it allocates.
#[test]
fn target_that_is_killed() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["busy"]);
    let agent = Agent::attach(&[target.pid()], &[]);
    target.write_line("go");
    for _ in 0..20 {
        let _: String = target.line_with("working");
    }
    target.signal(Signal::SIGKILL);
    let report = agent.last_report();
    let kept = report.called_from("keep_before");
    assert!(kept.blocks >= 20 && kept.bytes == 60 * kept.blocks, "{kept:?}: {:?}", report.callers());
}

/// One of two exits: the session goes on, and ends with the other.
#[test]
fn one_of_two_exits() {
    if !can_trace() {
        return;
    }
    let mut first = fixture::start("lifecycle", &["fork"]);
    let mut second = fixture::start("lifecycle", &["threads"]);
    let mut agent = Agent::attach(&[first.pid(), second.pid()], &[]);
    fixture::work(&mut first);
    let gone = first.pid();
    assert_eq!(first.finish().status, 0);
    let is_said =
        |report: &Report| report.remark("exited").is_some_and(|remark| remark.value("pids")[0] == gone);
    agent.report_when(is_said);
    fixture::work(&mut second);
    assert_eq!(second.finish().status, 0);
    let report = agent.last_report();
    assert_eq!(report.called_from("keep_before"), Totals::kept(500 * 60, 500), "{:?}", report.callers());
    assert_eq!(report.called_from("keep_in_thread").bytes, 100 * 90, "{:?}", report.callers());
}

/// As a user does who gives no option: with a budget, so in the way that leaves calls out, where the kernel has one.
#[test]
fn with_nothing_but_a_pid() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["threads"]);
    let agent = Agent::attach_with(&[target.pid()], &[]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    // On a slow machine not all may be within the budget.
    let found = report.called_from("keep_in_thread").bytes;
    assert!(found == 100 * 90 || !report.mode.exact, "{:?}", report.callers());
    assert_eq!(report.overhead.expect("it was measured").limit, Some(0.1));
    assert_eq!(target.finish().status, 0);
}

/// The first process of a PID namespace, as a container has it, by the PID it has outside.
#[test]
fn first_process_of_a_container() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new("unshare");
    command
        .args(["--pid", "--fork", "--kill-child", "--mount-proc"])
        .arg(fixture_path("lifecycle"))
        .arg("exec");
    let mut target = Running::spawn(&mut command);
    let _: String = target.line_with("ready");
    let unshare = target.pid();
    let children =
        fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children")).expect("its children");
    let pid = children.trim().parse().expect("one child");
    let agent = Agent::attach(&[pid], &[]);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.callers());
    assert_eq!(report.called_from("keep_before"), Totals::default());
}

/// The agent within the container: PIDs are the namespace's, and yet forks and `exec` are seen.
#[test]
fn agent_in_a_container() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]).arg(agent_path());
    command
        .args(["run", "--format", "json", "--top", "0", "--interval", "100ms", "--"])
        .arg(fixture_path("lifecycle"))
        .arg("exec");
    let mut agent = Running::spawn(&mut command);
    let _: String = agent.line_with("ready");
    agent.write_line("go");
    let _: String = agent.line_with("done");
    // A report that began before, and one that did not.
    let _: [String; 2] = [agent.line_with("{"), agent.line_with("{")];
    agent.write_line("end");
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let last = finished.stdout.lines().rfind(|line| line.starts_with('{')).expect("a report");
    let report = Report::parse(last);
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.callers());
    assert_eq!(report.called_from("keep_before"), Totals::default(), "{:?}", report.callers());
}

/// A program that only its own mount namespace shows, and that has been deleted there since.
#[test]
fn another_mount_namespace() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let hidden = directory.path().join("lifecycle");
    let script = "mount -t tmpfs none \"$1\" && cp \"$2\" \"$3\" && exec \"$3\" spawn";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]);
    command.arg(directory.path()).arg(fixture_path("lifecycle")).arg(&hidden);
    let mut target = Running::spawn(&mut command);
    let _: String = target.line_with("ready");
    assert!(!hidden.exists(), "the file shows outside the namespace");
    let inside = format!("/proc/{}/root{}", target.pid(), hidden.display());
    fs::remove_file(&inside).expect("the program can be deleted");
    let agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    let report = agent.last_report();
    assert_eq!(report.called_from("keep_before"), Totals::kept(500 * 60, 500), "{:?}", report.callers());
    let module = |path: &Path| {
        report.stacks.iter().any(|stack| stack.frames[0].module.contains(&*path.to_string_lossy()))
    };
    assert!(module(&hidden), "{:#?}", report.stacks);
}
