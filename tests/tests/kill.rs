//! The agent leaves nothing behind in its target, however it ends.

use std::{fs, process::Command, time::Instant};

use memtrace_tests::{Agent, Running, Totals, agent_path, can_trace, fixture, limit, proc};
use nix::sys::signal::Signal;

/// The breakpoint instruction, which is what a probe is.
const INT3: u8 = 0xcc;

/// Places at which the code differs, all of them breakpoints now.
fn probes(before: &[u8], now: &[u8]) -> usize {
    assert_eq!(before.len(), now.len());
    let changed = before.iter().zip(now).filter(|(before, now)| before != now);
    changed.inspect(|(_, now)| assert_eq!(**now, INT3)).count()
}

/// A target at work, and its C library's code before anybody traced it.
fn start() -> (Running, Vec<u8>) {
    let mut target = fixture::start("lifecycle", &["busy"]);
    let code = proc::libc_code(target.pid());
    target.write_line("go");
    let _: String = target.line_with("working");
    (target, code)
}

/// Closing what a killed process had open can go on after its end.
#[track_caller]
fn assert_no_probes(target: &Running, before: &[u8]) {
    let end = Instant::now() + limit();
    while probes(before, &proc::libc_code(target.pid())) != 0 {
        assert!(Instant::now() < end, "probes are left behind");
    }
}

#[track_caller]
fn assert_untouched(target: &mut Running, before: &[u8]) {
    assert_no_probes(target, before);
    // What was written before, and then three rounds that began after.
    target.discard_lines();
    for _ in 0..3 {
        let _: String = target.line_with("working");
    }
    let status = fs::read_to_string(format!("/proc/{}/status", target.pid())).expect("its status");
    assert!(status.contains("TracerPid:\t0\n"), "{status}");
}

#[test]
fn killed_agent() {
    if !can_trace() {
        return;
    }
    let (mut target, before) = start();
    let agent = Agent::attach(&[target.pid()], &[]);
    assert!(probes(&before, &proc::libc_code(target.pid())) >= 8);
    agent.kill();
    assert_untouched(&mut target, &before);
    // And another agent finds everything as it was.
    let mut agent = Agent::attach(&[target.pid()], &[]);
    agent.report_when(|report| report.called_from("keep_before").blocks > 0);
    let report = agent.interrupt();
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

#[test]
fn agent_that_ends_by_itself() {
    if !can_trace() {
        return;
    }
    let (mut target, before) = start();
    let agent = Agent::attach(&[target.pid()], &["-n", "10"]);
    assert!(probes(&before, &proc::libc_code(target.pid())) >= 8);
    let report = agent.last_report();
    assert!(report.outstanding.blocks > 0);
    assert_untouched(&mut target, &before);
}

/// Two agents at once see the same, and the end of one is not the other's.
#[test]
fn two_agents() {
    if !can_trace() {
        return;
    }
    let mut target = fixture::start("lifecycle", &["fork"]);
    let before = proc::libc_code(target.pid());
    let first = Agent::attach(&[target.pid()], &[]);
    let second = Agent::attach(&[target.pid()], &[]);
    second.kill();
    fixture::work(&mut target);
    let report = first.interrupt();
    assert_eq!(report.called_from("keep_before"), Totals::kept(500 * 60, 500), "{:?}", report.callers());
    assert_no_probes(&target, &before);
}

/// On a budget too, in whatever part of a window that was.
#[test]
fn killed_between_and_in_windows() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("hot", &[]);
    let before = proc::libc_code(target.pid());
    for gaps in 1..4 {
        let mut agent = Agent::attach_with(&[target.pid()], &["--max-overhead", "20%"]);
        agent.report_when(|report| report.mode.gaps >= gaps);
        agent.kill();
        assert_no_probes(&target, &before);
    }
}

/// A signal that comes while probes are being attached is dealt with when they are.
#[test]
fn interrupted_while_attaching() {
    if !can_trace() {
        return;
    }
    let targets: Vec<(Running, Vec<u8>)> = (0..8).map(|_| start()).collect();
    let pids = targets.iter().map(|(target, _)| target.pid().to_string());
    let mut command = Command::new(agent_path());
    let agent = Running::spawn(command.args(["attach", "--max-overhead", "off"]).args(pids));
    let end = Instant::now() + limit();
    while probes(&targets[0].1, &proc::libc_code(targets[0].0.pid())) == 0 {
        assert!(Instant::now() < end, "no probe is attached");
    }
    agent.signal(Signal::SIGTERM);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("last report"), "{}", finished.stdout);
    for (target, before) in &targets {
        assert_no_probes(target, before);
    }
}
