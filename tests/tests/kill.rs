//! The agent leaves nothing behind in its target, however it ends.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    os::unix::fs::FileExt as _,
    process::Command,
    time::Instant,
};

use memtrace_tests::{
    Agent, CSource, Report, Running, Totals, agent_path, can_trace, compile, fixture, fixture_path, limit,
    proc, shared_directory,
};
use nix::sys::signal::Signal;

/// The breakpoint instruction, which is what a probe is.
const INT3: u8 = 0xcc;

/// Places at which the code differs, all of them breakpoints now.
fn probes(before: &[u8], now: &[u8]) -> usize {
    assert_eq!(before.len(), now.len());
    let changed = before.iter().zip(now).filter(|(before, now)| before != now);
    changed.inspect(|(_, now)| assert_eq!(**now, INT3)).count()
}

/// A running target, and its C library's code before it was traced.
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
    assert_no_probes_of(target.pid(), before);
}

#[track_caller]
fn assert_no_probes_of(pid: u32, before: &[u8]) {
    let end = Instant::now() + limit();
    while probes(before, &proc::libc_code(pid)) != 0 {
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

/// A directory with a copy of the C library: detaching from the same file elsewhere would remove breakpoints too.
fn own_libc() -> tempfile::TempDir {
    let directory = shared_directory();
    let maps = fs::read_to_string("/proc/self/maps").expect("own mappings");
    let libc =
        maps.lines().find_map(|line| line.split_whitespace().nth(5).filter(|file| file.contains("/libc.so")));
    fs::copy(libc.expect("a C library"), directory.path().join("libc.so.6")).expect("a copy of it");
    directory
}

/// A child that nobody traces would run into the probes that it inherited, at every call and for nothing.
#[test]
fn children_that_are_not_traced_lose_their_probes() {
    if !can_trace() {
        return;
    }
    let directory = own_libc();
    let program = compile(directory.path(), "master", CSource { file: "master.c", options: &["-O2"] });
    let mut target = Running::spawn(Command::new(program).env("LD_LIBRARY_PATH", directory.path()));
    let _ = target.line_with("ready");
    let before = proc::libc_code(target.pid());
    let agent = Agent::attach(&[target.pid()], &[]);
    // The daemon's parent is gone when the agent hears of it.
    for kind in ["fork", "daemon", "fork"] {
        target.write_line(kind);
        let child = target.line_with("worker");
        let child = child.rsplit(' ').next().and_then(|pid| pid.parse().ok()).expect("its pid");
        assert_no_probes_of(child, &before);
    }
    assert!(probes(&before, &proc::libc_code(target.pid())) >= 8, "those of the target stay");
    let _ = agent.interrupt();
    assert_no_probes(&target, &before);
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

/// While a call that was left by a jump may still return, and its thread meets probes on returns deeper in the stack, the
/// kernel completes no removal of such a probe in any process. So all are removed at the same time.
/// Kernel mode too is ended cleanly by a signal that comes while it loads its programs.
#[test]
fn interrupted_while_it_loads_for_the_kernel() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new(agent_path());
    let mut agent = Running::spawn(command.args(["kernel", "-f", "json", "-i", "100ms"]));
    let status = format!("/proc/{}/status", agent.pid());
    let is_held = || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
        let blocked = blocked.and_then(|set| u64::from_str_radix(set.trim(), 16).ok()).unwrap_or_default();
        (blocked >> (Signal::SIGTERM as i32 - 1)) & 1 == 1
    };
    let end = Instant::now() + limit();
    while !is_held() {
        assert!(Instant::now() < end, "signals are not held");
    }
    agent.signal(Signal::SIGTERM);
    assert!(Report::parse(&agent.line_with("{")).last);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
}

/// Under nohup, also while probes are attached. Other signals end it.
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    if !can_trace() {
        return;
    }
    let (mut target, before) = start();
    let mut nohup = Command::new("nohup");
    nohup.arg(agent_path()).args(["attach", &target.pid().to_string(), "-f", "json", "-i", "100ms"]);
    let mut agent = Running::spawn(&mut nohup);
    let pid = agent.pid();
    // nohup first, which ignores it, then the agent.
    let is_agent = || fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == agent_path());
    let end = Instant::now() + limit();
    while !is_agent() {
        assert!(Instant::now() < end, "nohup starts nothing");
    }
    agent.signal(Signal::SIGHUP);
    for _ in 0..3 {
        assert!(!Report::parse(&agent.line_with("{")).last);
        agent.signal(Signal::SIGHUP);
    }
    agent.signal(Signal::SIGINT);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert_untouched(&mut target, &before);
}

#[test]
fn calls_that_never_return_hold_nothing_up() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let source = CSource { file: "unreturned.c", options: &["-O1", "-fno-builtin"] };
    let program = compile(directory.path(), "unreturned", source);
    for options in [&["--max-overhead", "off"][..], &["--max-overhead", "off", "--sample", "2KiB"]] {
        let mut target = fixture::start_path(&program, &[]);
        let mut agent = Agent::attach_with(&[target.pid()], options);
        target.write_line("go");
        for _ in 0..5 {
            let _: Report = agent.report();
        }
        let _: Report = agent.interrupt();
    }
}

/// Waits until one of these places has a breakpoint. Quickly: more follow within a millisecond.
fn wait_for_probe(memory: &File, places: &[u64]) {
    let end = Instant::now() + limit();
    let is_probed = |place: &u64| {
        let mut byte = [0];
        memory.read_exact_at(&mut byte, *place).expect("the code of the target");
        byte == [INT3]
    };
    while !places.iter().any(is_probed) {
        assert!(Instant::now() < end, "no probe is attached");
    }
}

/// The kernel gives up where a killed process was about to put a breakpoint, and leaves what it has put already.
#[test]
fn killed_while_attaching() {
    if !can_trace() {
        return;
    }
    let directory = own_libc();
    let mut command = Command::new(fixture_path("lifecycle"));
    let mut target = Running::spawn(command.arg("busy").env("LD_LIBRARY_PATH", directory.path()));
    let _: String = target.line_with("ready");
    let before = proc::libc_code(target.pid());
    target.write_line("go");
    let agent = Agent::attach(&[target.pid()], &[]);
    let (start, _) = proc::libc_range(target.pid());
    let probed = proc::libc_code(target.pid());
    let places: Vec<u64> =
        (start..).zip(before.iter().zip(&probed)).filter(|(_, (a, b))| a != b).map(|(at, _)| at).collect();
    drop(agent.interrupt());
    assert_no_probes(&target, &before);
    let memory = File::open(format!("/proc/{}/mem", target.pid())).expect("the memory of the target");
    for _ in 0..40 {
        let mut command = Command::new(agent_path());
        command.args(["attach", "--max-overhead", "off"]).arg(target.pid().to_string());
        let agent = Running::spawn(&mut command);
        wait_for_probe(&memory, &places);
        agent.signal(Signal::SIGKILL);
        assert_eq!(agent.finish().status, 128 + 9);
        assert_no_probes(&target, &before);
    }
    assert_untouched(&mut target, &before);
}

/// A thread that ends by itself just when the process is killed keeps SIGKILL pending; where it is the last one to have
/// the links, the kernel leaves their breakpoints. So no thread ends.
#[test]
fn no_thread_ends_while_probes_are_in_place() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("hot", &[]);
    let mut agent = Agent::attach_with(&[target.pid()], &["--max-overhead", "20%"]);
    let mut seen: BTreeSet<String> = BTreeSet::new();
    for gaps in 1..6 {
        agent.report_when(|report| report.mode.gaps >= gaps);
        seen.extend(agent.threads());
    }
    // Whatever was detached in the last gap is.
    agent.report_when(|report| report.mode.gaps >= 8);
    let now = agent.threads();
    assert!(seen.iter().all(|thread| now.contains(thread)), "{seen:?}, now {now:?}");
    assert!(now.len() >= 2, "nothing is detached by a thread: {now:?}");
}
