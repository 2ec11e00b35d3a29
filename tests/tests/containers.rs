//! Targets in containers that the test makes: namespaces of pids and mounts, and a copy of the C library. The agent is outside, inside, or
//! beside them.

use std::{fs, path::PathBuf, process::Command};

use memtrace_tests::{
    Agent, CSource, Report, Running, agent_path, can_trace, compile, proc, shared_directory,
};

/// A master in a container, as whose init it runs.
struct Container {
    _directory: tempfile::TempDir,
    master: Running,
    /// Its pid outside.
    pid: u32,
}

/// The file that is this process's C library.
fn libc_file() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").expect("mappings");
    let line = maps.lines().find(|line| line.contains("/libc.so.6")).expect("a C library");
    line[line.find('/').expect("a path")..].into()
}

impl Container {
    fn start() -> Self {
        let directory = shared_directory();
        let program =
            compile(directory.path(), "master", CSource { file: "master.c", options: &["-O1", "-g"] });
        let (libc, copy) = (libc_file(), directory.path().join("libc.so.6"));
        fs::copy(&libc, &copy).expect("a copy of the C library");
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child", "--mount", "--mount-proc"]);
        command
            .args(["sh", "-c", r#"mount --bind "$0" "$1" && exec "$2""#])
            .arg(&copy)
            .arg(&libc)
            .arg(program);
        let mut master = Running::spawn(&mut command);
        master.line_with("ready");
        let [pid] = proc::children(master.pid())[..] else { panic!("no init") };
        Self { _directory: directory, master, pid }
    }

    /// Starts a worker. Returns its pid inside.
    fn worker(&mut self, how: &str) -> u32 {
        self.master.write_line(how);
        let line = self.master.line_with("worker ");
        line.trim_start_matches("worker ").trim().parse().expect("a pid")
    }

    /// A command in its namespaces of pids and mounts.
    fn inside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.pid.to_string(), "--pid", "--mount", "--"]);
        command
    }

    /// A command in its namespace of pids, which sees the files of this machine.
    fn beside(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.args([
            "--target",
            &self.pid.to_string(),
            "--pid",
            "--",
            "unshare",
            "--mount",
            "--mount-proc",
        ]);
        command
    }

    fn run_inside(&self, script: &str) {
        let finished = Running::spawn(self.inside().args(["sh", "-c", script])).finish();
        assert_eq!(finished.status, 0, "{script}: {}", finished.stderr);
    }
}

/// Blocks of a size that were allocated in `handle` of a process; of any process, if that is 0.
fn handled(report: &Report, pid: u32, size: u64) -> u64 {
    let is_it = |name: Option<&str>| name == Some("handle");
    let stacks = report.stacks.iter().filter(|stack| {
        (pid == 0 || stack.pid == pid)
            && stack.bytes == size * stack.blocks
            && stack.frames.iter().any(|frame| is_it(frame.function.as_deref()))
    });
    stacks.map(|stack| stack.blocks).sum()
}

/// Workers that exist and those to come are found, by their pids inside.
fn assert_followed(container: &mut Container, agent: &mut Agent, before: u32) {
    let after = container.worker("exec");
    let report =
        agent.report_when(|report| handled(report, before, 700) > 20 && handled(report, after, 512) > 20);
    assert!(report.target.pids.contains(&1), "{:?}", report.target);
}

#[test]
fn from_outside() {
    if !can_trace() {
        return;
    }
    let mut container = Container::start();
    container.worker("fork");
    let mut agent = Agent::attach(&[container.pid], &["--follow"]);
    container.worker("exec");
    let report = agent.report_when(|report| handled(report, 0, 700) > 20 && handled(report, 0, 512) > 20);
    assert_eq!(report.target.pids.len(), 3);
    assert_eq!(report.losses.children_not_traced, 0, "{:?}", report.losses);
    let _ = agent.interrupt();
}

#[test]
fn from_inside() {
    if !can_trace() {
        return;
    }
    let mut container = Container::start();
    let before = container.worker("fork");
    let mut agent = Agent::attach_by(container.inside().arg(agent_path()), &[1], &["--follow"]);
    assert_followed(&mut container, &mut agent, before);
}

#[test]
fn from_a_sidecar() {
    if !can_trace() {
        return;
    }
    let mut container = Container::start();
    let before = container.worker("fork");
    let mut agent = Agent::attach_by(container.beside().arg(agent_path()), &[1], &["--follow"]);
    assert_followed(&mut container, &mut agent, before);
}

/// A process that gets the pid of one that has exited is another one, and takes its place in reports.
#[test]
fn pids_that_are_used_again() {
    if !can_trace() {
        return;
    }
    let mut container = Container::start();
    let mut agent = Agent::attach_by(container.inside().arg(agent_path()), &[1], &["--follow"]);
    // Threads of the agent take pids there too: one that was used may not be free at once.
    for _ in 0..10 {
        let first = container.worker("fork");
        let _ = agent.report_when(|report| handled(report, first, 700) > 20);
        container.run_inside(&format!("kill -9 {first}"));
        let _ = agent.report_when(|report| report.says("exited"));
        container.run_inside(&format!("echo {} > /proc/sys/kernel/ns_last_pid", first - 1));
        if container.worker("exec") != first {
            continue;
        }
        let report = agent.report_when(|report| handled(report, first, 512) > 20);
        assert_eq!(handled(&report, first, 700), 0, "the first one is gone");
        assert_eq!(report.target.pids.iter().filter(|pid| **pid == first).count(), 1, "{:?}", report.target);
        let followed = report.remark("followed").expect("a remark");
        assert_eq!(followed.value("exited").as_u64(), Some(1), "{followed:?}");
        return;
    }
    panic!("no pid was used again");
}
