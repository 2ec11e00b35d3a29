//! The child that reads files for the agent: what it may do, and what becomes of a session without it.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use memtrace_tests::{
    Agent, Running, can_trace, fixture, limit, proc,
    stages::{assert_names, assert_unread, build, holder},
};
use nix::sys::signal::Signal;

/// The child that reads files, once there is one.
fn reader(agent: &mut Agent) -> u32 {
    agent.report_when(|report| holder(report, 1111).0.is_some());
    match proc::children(agent.pid()).as_slice() {
        [child] => *child,
        children => panic!("children: {children:?}"),
    }
}

fn send(pid: u32, signal: Signal) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), signal).expect("a signal can be sent");
}

/// A target that has run its first stage, its agent, and the agent's child.
fn begin(directory: &Path) -> (Running, Agent, u32) {
    let mut target = fixture::start_path(build(directory), &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    fixture::work(&mut target);
    let child = reader(&mut agent);
    (target, agent, child)
}

#[test]
fn files_are_read_without_privileges() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (_target, agent, child) = begin(directory.path());
    let is =
        |field: &str, value: &str| assert_eq!(proc::status(child, field).as_deref(), Some(value), "{field}");
    is("Uid", "65534\t65534\t65534\t65534");
    is("Gid", "65534\t65534\t65534\t65534");
    is("Groups", "");
    for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
        is(set, "0000000000000000");
    }
    is("NoNewPrivs", "1");
    is("Seccomp", "2");
    // Nothing of the agent's: a link would keep breakpoints in the target.
    for file in proc::open_files(child) {
        assert!(!file.contains("anon_inode"), "{file}");
    }
    agent.kill();
    let end = Instant::now() + limit();
    while proc::state(child).is_some_and(|state| state != 'Z') {
        assert!(Instant::now() < end, "the child outlives the agent");
    }
}

/// The child hangs: the agent hears signals, reports what it knows and ends.
#[test]
fn interrupted_while_names_are_looked_up() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut target, agent, child) = begin(directory.path());
    send(child, Signal::SIGSTOP);
    fixture::work(&mut target);
    let report = agent.interrupt();
    assert_eq!((report.outstanding.bytes, holder(&report, 1111).0), (3333, Some("stage_one")));
    assert_eq!(holder(&report, 2222).0, None);
    assert!(report.says("names_late"), "{:?}", report.remarks);
    assert!(report.losses.names_given_up > 0);
    assert_eq!(target.finish().status, 0);
}

/// A signal that comes when the target has ended asks for nothing that is not done already: the last report waits for its
/// names.
#[test]
fn interrupted_when_the_target_has_ended() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut target, agent, child) = begin(directory.path());
    send(child, Signal::SIGSTOP);
    fixture::work(&mut target);
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    // The agent sees the end meanwhile. If it does not, this test looks at less.
    std::thread::sleep(Duration::from_millis(500));
    send(agent.pid(), Signal::SIGINT);
    std::thread::sleep(Duration::from_millis(100));
    send(child, Signal::SIGCONT);
    assert_names(&agent.last_report());
}

/// A child that is killed is replaced, and nothing is missing.
#[test]
fn killed_reader_is_replaced() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (mut target, mut agent, child) = begin(directory.path());
    send(child, Signal::SIGKILL);
    fixture::work(&mut target);
    agent.report_when(|report| holder(report, 2222).1.is_some());
    // One that hangs too, but not at once.
    let [child] = proc::children(agent.pid())[..] else { panic!("no child") };
    send(child, Signal::SIGSTOP);
    fixture::work(&mut target);
    let report = agent.report_when(|report| holder(report, 3333).0.is_some());
    assert_names(&report);
    assert_unread(&report, "debug_info", "too_slow");
    assert_eq!(target.finish().status, 0);
    assert_names(&agent.last_report());
}
