//! Processes that join while others are traced: children, and those with a name or in a cgroup or container.

use std::process::Command;

use memtrace_tests::{
    Agent, CSource, Cgroup, Report, Running, assert_refused, can_trace, compile, memtrace, remark,
};

/// A program under a name of its own, so that no other is selected.
struct Program {
    _directory: tempfile::TempDir,
    name: String,
    path: std::path::PathBuf,
}

fn program(test: &str) -> Program {
    let directory = memtrace_tests::shared_directory();
    // Names of processes have 15 bytes.
    let name = format!("{test}-{}", std::process::id());
    let source = CSource { file: "master.c", options: &["-O1", "-g"] };
    let path = compile(directory.path(), &name, source);
    Program { _directory: directory, name, path }
}

impl Program {
    fn start(&self, arguments: &[&str]) -> Running {
        let mut running = Running::spawn(Command::new(&self.path).args(arguments));
        running.line_with("ready");
        running
    }
}

/// Starts a worker.
fn worker(master: &mut Running, how: &str) -> u32 {
    master.write_line(how);
    let line = master.line_with("worker ");
    line.trim_start_matches("worker ").trim().parse().expect("a pid")
}

/// What a process has allocated in `handle`: blocks, and their size.
fn handled(report: &Report, pid: u32) -> Option<(u64, u64)> {
    let is_it = |name: Option<&str>| name == Some("handle");
    let mut stacks = report.stacks.iter().filter(|stack| {
        stack.pid == pid && stack.frames.iter().any(|frame| is_it(frame.function.as_deref()))
    });
    let stack = stacks.next()?;
    Some((stack.blocks, stack.bytes / stack.blocks.max(1)))
}

fn has_all(report: &Report, workers: &[(u32, u64)]) -> bool {
    workers
        .iter()
        .all(|&(pid, size)| handled(report, pid).is_some_and(|(blocks, of)| blocks > 20 && of == size))
}

#[test]
fn children_are_followed() {
    if !can_trace() {
        return;
    }
    let program = program("children");
    let mut master = program.start(&[]);
    let before = worker(&mut master, "fork");
    let mut agent = Agent::attach(&[master.pid()], &["--follow"]);
    let (forked, executed) = (worker(&mut master, "fork"), worker(&mut master, "exec"));
    let workers = [(before, 700), (forked, 700), (executed, 512)];
    let report = agent.report_when(|report| has_all(report, &workers));
    assert_eq!(report.remark("followed").map(|remark| remark.value("followed").as_u64()), Some(Some(3)));
    assert_eq!(report.losses.children_not_traced, 0, "{:?}", report.losses);
    let _ = agent.interrupt();
}

#[test]
fn children_are_left_alone_otherwise() {
    if !can_trace() {
        return;
    }
    let program = program("alone");
    let mut master = program.start(&[]);
    let mut agent = Agent::attach(&[master.pid()], &[]);
    let _ = worker(&mut master, "fork");
    let report = agent.report_when(|report| report.losses.children_not_traced == 1);
    assert!(!report.says("followed"), "{:?}", report.remarks);
    let _ = agent.interrupt();
}

#[test]
fn processes_are_selected_by_name() {
    if !can_trace() {
        return;
    }
    let program = program("named");
    let first = program.start(&["worker"]);
    let mut agent = Agent::attach(&[], &["--name", &format!("^{}$", program.name)]);
    // Found within ten seconds.
    let second = program.start(&["worker"]);
    let both = [(first.pid(), 512), (second.pid(), 512)];
    let _ = agent.report_when(|report| has_all(report, &both));
    let _ = agent.interrupt();
    let nothing = memtrace(["attach", "--name", "^no such process$"]);
    assert_refused(&nothing, 1, "no process");
}

#[test]
fn processes_are_selected_by_cgroup_and_container() {
    if !can_trace() {
        return;
    }
    let id = format!("{:064x}", 0xfeed_0000_0000_u64 + u64::from(std::process::id()));
    let id = id.replacen("0000", "c0de", 1);
    let Some(group) = Cgroup::named(&format!("docker-{id}.scope")) else {
        remark("skipped: there is no cgroup to write to");
        return;
    };
    let program = program("grouped");
    let (inside, outside) = (program.start(&["worker"]), program.start(&["worker"]));
    group.add(inside.pid());
    let mut path = format!("/proc/{}/cgroup", inside.pid());
    path = std::fs::read_to_string(path).expect("cgroups");
    let path = path.lines().find(|line| line.contains(&id)).and_then(|line| line.splitn(3, ':').nth(2));
    for options in [["--container", &id[..12]], ["--cgroup", path.expect("a path")]] {
        let mut agent = Agent::attach(&[], &options);
        let report = agent.report_when(|report| has_all(report, &[(inside.pid(), 512)]));
        assert_eq!(handled(&report, outside.pid()), None, "{options:?}");
        let _ = agent.interrupt();
    }
    drop(inside);
    drop(outside);
}
