//! Processes that join while others are traced: children, and those with a name or in a cgroup or container.

use std::process::Command;

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

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

/// Processes that have ended make room for others. What is still shown of them stays right.
#[test]
fn indices_are_used_again() {
    if !can_trace() {
        return;
    }
    // Places are given again once more than 32 of those that have exited were noticed, which is every few seconds.
    const MOST: u64 = 1000;
    let program = program("again");
    let mut master = program.start(&[]);
    let mut agent = Agent::attach(&[master.pid()], &["--follow"]);
    let signal = |pid: u32| kill(Pid::from_raw(pid as i32), Signal::SIGUSR1).expect("a signal");
    let value = |report: &Report, name: &str| {
        report.remark("followed").and_then(|remark| remark.value(name).as_u64()).unwrap_or(0)
    };
    let mut children = 0;
    // Some at a time: a report takes longer than they do.
    loop {
        let pids = [(); 5].map(|()| worker(&mut master, "few"));
        let _ = agent.report_when(|report| pids.iter().all(|pid| report.target.pids.contains(pid)));
        pids.iter().for_each(|pid| signal(*pid));
        let has_all = |report: &Report| pids.iter().all(|&pid| handled(report, pid) == Some((7, 1000)));
        let report = agent.report_when(has_all);
        pids.iter().for_each(|pid| signal(*pid));
        children += 5;
        if value(&report, "exited") > 0 {
            break;
        }
        assert!(children < MOST, "no place was given again: {:?}", report.remarks);
    }
    let report = agent.report_when(|report| report.says("exited") && value(report, "exited") > 0);
    assert_eq!(value(&report, "followed"), children);
    let shown: Vec<u32> = report.target.pids.iter().copied().filter(|pid| *pid != master.pid()).collect();
    assert_eq!(shown.len() as u64, children - value(&report, "exited"), "{:?}", report.remarks);
    for pid in &shown {
        let stacks: Vec<_> = report.stacks.iter().filter(|stack| stack.pid == *pid).collect();
        let [stack] = stacks.as_slice() else { panic!("process {pid}: {stacks:#?}") };
        let figures = [stack.blocks, stack.bytes, stack.allocated_blocks, stack.freed_blocks];
        assert_eq!(figures, [7, 7000, 10, 3], "process {pid}");
    }
    assert_eq!(report.outstanding.bytes, 7000 * shown.len() as u64, "nothing else is counted");
    assert!(report.losses.is_exact(), "{:?}", report.losses);
    let _ = agent.interrupt();
}

/// Workers that run the same code are one row, if that is wanted: live, and of a saved report.
#[test]
fn processes_are_merged() {
    if !can_trace() {
        return;
    }
    let program = program("merged");
    let mut master = program.start(&[]);
    let workers = [(); 3].map(|()| worker(&mut master, "fork"));
    let executed = worker(&mut master, "exec");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("saved.mt").display().to_string();
    let mut agent = Agent::attach(&[master.pid()], &["--follow", "--merge", "--save", &file]);
    let is_merged = |report: &Report| {
        let merged = report.stacks.iter().find(|stack| stack.processes == Some(3));
        merged.is_some_and(|stack| stack.blocks > 60) && handled(report, executed).is_some()
    };
    let _ = agent.report_when(is_merged);
    let last = agent.interrupt();
    assert!(is_merged(&last), "{:#?}", last.stacks);
    let show = |options: &[&str]| {
        let finished = memtrace(["report", &file, "-T", "0"].iter().chain(options));
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        finished.stdout
    };
    let apart = Report::parse(show(&["-f", "json"]).trim());
    let each = workers.map(|pid| handled(&apart, pid).expect("its blocks"));
    for merged in [last, Report::parse(show(&["-f", "json", "--merge"]).trim())] {
        let stack = merged.stacks.iter().find(|stack| stack.processes == Some(3)).expect("a row of three");
        let sum = each.iter().map(|(blocks, _)| blocks).sum::<u64>();
        assert_eq!((stack.pid, stack.blocks, stack.bytes), (0, sum, 700 * sum));
        let mut pids = stack.pids.clone().expect("pids");
        pids.sort_unstable();
        assert_eq!(pids, {
            let mut workers = workers;
            workers.sort_unstable();
            workers
        });
        assert_eq!(merged.outstanding, apart.outstanding);
    }
    assert!(show(&["--merge", "--all"]).contains(", in 3 processes"), "{}", show(&["--merge", "--all"]));
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
