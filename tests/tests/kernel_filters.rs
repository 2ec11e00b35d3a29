//! Kernel mode limited to processes and cgroups, seen from other namespaces too.

use std::{
    fs,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use memtrace_tests::{
    Agent, Cgroup, Running, agent_path, assert_refused, can_trace, fixture, fixture_path, remark,
};

/// Tests take turns: cgroups are named after the process. `None` where nothing can be traced.
fn alone() -> Option<MutexGuard<'static, ()>> {
    static TURN: Mutex<()> = Mutex::new(());
    can_trace().then(|| TURN.lock().unwrap_or_else(PoisonError::into_inner))
}

#[test]
fn only_what_a_cgroup_allocates() {
    let Some(_alone) = alone() else { return };
    let Some(cgroup) = Cgroup::new() else {
        remark("skipped: no cgroup 2 file system to write to");
        return;
    };
    let mut outside = fixture::start("kernel_leaks", &["sockets", "1000"]);
    let mut inside = fixture::start("kernel_leaks", &["sockets", "500"]);
    cgroup.add(inside.pid());
    let agent = Agent::kernel(&["--cgroup", &cgroup.path().display().to_string(), "--cache", "TCP"]);
    let _: String = fixture::work(&mut outside);
    let _: String = fixture::work(&mut inside);
    assert_eq!(agent.interrupt().outstanding.blocks, 500);
}

/// A bind mount shows a part of the hierarchy at another depth.
#[test]
fn a_cgroup_through_a_bind_mount() {
    let Some(_alone) = alone() else { return };
    let Some(cgroup) = Cgroup::new() else {
        remark("skipped: no cgroup 2 file system to write to");
        return;
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let bound = directory.path().display().to_string();
    let mut inside = fixture::start("kernel_leaks", &["sockets", "500"]);
    cgroup.add(inside.pid());
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", r#"mount --bind "$0" "$1" && shift && exec "$@""#]);
    command.arg(cgroup.path()).arg(&bound).arg(agent_path());
    let agent = Agent::kernel_by(&mut command, &["--cgroup", &bound, "--cache", "TCP"]);
    let _: String = fixture::work(&mut inside);
    assert_eq!(agent.interrupt().outstanding.blocks, 500);
}

/// The agent and its target in a container: `--pid` is the PID there.
#[test]
fn only_what_a_process_of_a_pid_namespace_allocates() {
    let Some(_alone) = alone() else { return };
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child", "--mount-proc"]);
    command.arg(fixture_path("kernel_leaks")).args(["sockets", "500"]);
    let mut target = Running::spawn(&mut command);
    let _: String = target.line_with("ready");
    let unshare = target.pid();
    let children = fs::read_to_string(format!("/proc/{unshare}/task/{unshare}/children"));
    let outside = children.expect("its children").trim().to_owned();
    let mut command = Command::new("nsenter");
    command.args(["--target", &outside, "--pid", "--mount", "--"]).arg(agent_path());
    let mut agent = Agent::kernel_by(&mut command, &["--pid", "1", "--cache", "TCP"]);
    let _: String = fixture::work(&mut target);
    let report = agent.fresh_report();
    assert_eq!(report.outstanding.blocks, 500, "{:?}", report.stacks);
    // A PID of this namespace says nothing in there, nor does one there of a namespace below.
    let mut inner = Command::new("nsenter");
    inner.args(["--target", &outside, "--pid", "--mount", "--"]);
    inner.args(["unshare", "--pid", "--fork", "--kill-child"]).arg(agent_path());
    inner.args(["kernel", "--pid", "1", "--cache", "TCP"]);
    assert_refused(&Running::spawn(&mut inner).finish(), 1, "PID namespace");
}
