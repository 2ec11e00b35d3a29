//! Processes whose main thread has left, or leaves.

use std::{
    fs,
    path::PathBuf,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use memtrace_tests::{Agent, CSource, Report, Running, Totals, can_trace, compile, limit, proc::libc_code};
use tempfile::TempDir;

/// The compiled program, and the directory that it lies in.
fn program() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "threads.c", options: &["-O1", "-g"] };
    let path = compile(directory.path(), "threads", source);
    (directory, path)
}

fn start(path: &PathBuf, arguments: &[&str]) -> Running {
    let mut target = Running::spawn(Command::new(path).args(arguments));
    let _: String = target.line_with("ready");
    target
}

/// Held by each test: where a thread ends that holds probes, another tracer that goes in that moment takes breakpoints along,
/// which is found and said, but is not what these tests are about.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives a command and waits for the answer.
fn tell(target: &mut Running, command: &str, answer: &str) {
    target.write_line(command);
    let _: String = target.line_with(answer);
}

/// The last thread of a process.
fn thread_of(pid: u32) -> u32 {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).expect("the threads of the target");
    let tid = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    threads.filter_map(tid).max().expect("a thread")
}

#[track_caller]
fn assert_kept(report: &Report, times: u64) {
    assert_eq!(
        report.called_from("keep_block"),
        Totals::kept(times * 100 * 222, times * 100),
        "{:?} {:?}",
        report.callers(),
        report.remarks
    );
}

/// Ways to attach: uprobe sessions or multi-uprobes, and perf uprobes.
const METHODS: [&[&str]; 2] = [&[], &["--perf-uprobes"]];

#[test]
fn main_thread_that_left_before() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    for options in METHODS {
        let mut target = start(&path, &["gone"]);
        let worker = thread_of(target.pid());
        let code = libc_code(worker);
        // Nothing stays in it when the agent ends, not even by force.
        Agent::attach(&[target.pid()], options).kill();
        assert!(libc_code(worker) == code);
        let _: Report = Agent::attach(&[target.pid()], options).interrupt();
        assert!(libc_code(worker) == code);
        let mut agent = Agent::attach(&[target.pid()], options);
        assert!(libc_code(worker) != code);
        tell(&mut target, "k", "kept");
        let report = agent.fresh_report();
        assert_kept(&report, 1);
        assert!(report.mode.exact && report.losses.is_exact(), "{:?}", report.remarks);
        assert_eq!(report.target.comm, "threads");
        tell(&mut target, "k", "kept");
        assert_eq!(target.finish().status, 0);
        let report = agent.last_report();
        assert_kept(&report, 2);
    }
}

/// Nothing is missed where the kernel leaves probes in place, and a gap is said where it does not.
#[test]
fn main_thread_that_leaves_later() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    for options in METHODS {
        let mut target = start(&path, &[]);
        let mut agent = Agent::attach(&[target.pid()], options);
        tell(&mut target, "k", "kept");
        tell(&mut target, "l", "left");
        let perf = !options.is_empty();
        let _: Report = agent.report_when(|report| !perf || report.mode.gaps == 1);
        tell(&mut target, "k", "kept");
        let report = agent.fresh_report();
        assert_kept(&report, 2);
        assert_eq!(report.mode.exact, !perf, "{:?}", report.remarks);
        assert_eq!(report.says("attached_anew"), perf, "{:?}", report.remarks);
        assert_eq!(target.finish().status, 0);
        let _: Report = agent.last_report();
    }
}

/// Each thread that holds the probes ends, and the next one takes over. Whether nothing was missed.
fn hand_on(path: &PathBuf, options: &[&str]) -> bool {
    let mut target = start(path, &["gone"]);
    let mut agent = Agent::attach(&[target.pid()], options);
    let links = agent.links();
    tell(&mut target, "k", "kept");
    for times in 1..=3 {
        tell(&mut target, "n", "taken");
        let _: Report = agent.report_when(|report| options.is_empty() || report.mode.gaps == times);
        tell(&mut target, "k", "kept");
    }
    let report = agent.fresh_report();
    let exact = report.mode.exact;
    assert_eq!(report.says("attached_anew"), !exact, "{:?}", report.remarks);
    if exact || !options.is_empty() {
        assert_kept(&report, 4);
    }
    // What the threads held that have ended is given up.
    let end = Instant::now() + limit();
    while agent.links() > links {
        assert!(Instant::now() < end, "{} of {links}", agent.links());
        let _: Report = agent.report();
    }
    assert_eq!(target.finish().status, 0);
    let _: Report = agent.last_report();
    exact
}

#[test]
fn threads_that_hold_the_probes_end() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    let [multi, perf] = METHODS;
    // Unless another tracer on this machine goes at one of these moments.
    assert!((0..5).any(|_| hand_on(&path, multi)));
    assert!(!hand_on(&path, perf));
}

/// The thread that holds the probes becomes the main one, which is counted once.
#[test]
fn exec_by_the_thread_that_holds_the_probes() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    for options in METHODS {
        let mut target = start(&path, &["gone"]);
        let mut agent = Agent::attach(&[target.pid()], options);
        tell(&mut target, "k", "kept");
        tell(&mut target, "x", "ready");
        let is_traced = |report: &Report| report.target.allocators == ["glibc"];
        let _: Report = agent.report_when(|report| report.says("exec") && is_traced(report));
        // Its main thread has left too.
        let _: Report = agent.fresh_report();
        tell(&mut target, "k", "kept");
        let report = agent.fresh_report();
        assert_kept(&report, 1);
        assert_eq!(target.finish().status, 0);
        let _: Report = agent.last_report();
    }
}

/// Another tracer's probes at the same places, when they go, do not take the breakpoints along.
#[test]
fn another_tracer_that_comes_and_goes() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    let mut target = start(&path, &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    tell(&mut target, "l", "left");
    let other = start(&path, &[]);
    let _: Report = Agent::attach(&[other.pid()], &[]).interrupt();
    tell(&mut target, "k", "kept");
    let report = agent.fresh_report();
    assert_kept(&report, 1);
    assert!(report.mode.exact, "{:?}", report.remarks);
    assert_eq!(target.finish().status, 0);
    let _: Report = agent.last_report();
}

/// Breakpoints that the target itself lost are put back, and it is said that they were missing.
#[test]
fn breakpoints_that_are_lost_are_put_back() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    for options in METHODS {
        let mut target = start(&path, &[]);
        let mut agent = Agent::attach(&[target.pid()], options);
        tell(&mut target, "k", "kept");
        tell(&mut target, "d", "dropped");
        target.write_line("s");
        let report = agent.report_when(|report| report.mode.gaps > 0);
        let why = report.remark("attached_anew").map(|remark| remark.value("why"));
        assert_eq!(why, Some(&"removed".into()), "{:?}", report.remarks);
        assert!(!report.mode.exact);
        target.write_line("");
        tell(&mut target, "k", "kept");
        let report = agent.fresh_report();
        assert_kept(&report, 2);
        assert_eq!(target.finish().status, 0);
        let _: Report = agent.last_report();
    }
}

/// Where the code is a copy no breakpoint can be, and that is said.
#[test]
fn code_that_is_a_copy_is_said_to_be() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    let mut target = start(&path, &[]);
    let mut agent = Agent::attach(&[target.pid()], &[]);
    tell(&mut target, "k", "kept");
    tell(&mut target, "c", "copied");
    target.write_line("s");
    let report = agent.report_when(|report| report.says("code_copied"));
    assert_kept(&report, 1);
    target.write_line("");
    tell(&mut target, "k", "kept");
    assert_kept(&agent.fresh_report(), 1);
    assert_eq!(target.finish().status, 0);
    let _: Report = agent.last_report();
}

/// In windows, and by samples: whether the main thread has left before or leaves meanwhile.
#[test]
fn main_thread_that_leaves_a_program_that_is_sampled() {
    if !can_trace() {
        return;
    }
    let _alone = alone();
    let (_directory, path) = program();
    let windows: &[&str] = &["--max-overhead", "10%", "--sample", "off"];
    let samples: &[&str] = &["--max-overhead", "off", "--sample", "4KiB"];
    let [multi, perf] = METHODS;
    for (way, options, when) in
        [(windows, multi, "gone"), (windows, multi, ""), (samples, multi, ""), (samples, perf, "gone")]
    {
        let mut target = start(&path, &[when][..usize::from(!when.is_empty())]);
        target.write_line("h");
        let mut agent = Agent::attach_with(&[target.pid()], &[way, options].concat());
        let mut seen = 0;
        for _ in 0..3 {
            let kept = |report: &Report| report.called_from("keep_block").allocated_blocks;
            let report = agent.report_when(|report| kept(report) > seen);
            assert!(way == windows || report.uncertainty.is_some(), "{:?}", report.mode);
            seen = kept(&report);
        }
        if when.is_empty() {
            target.write_line("");
            tell(&mut target, "l", "left");
            target.write_line("h");
            let before = agent.fresh_report().called_from("keep_block").allocated_blocks;
            for more in 1..3 {
                let _: Report = agent
                    .report_when(|report| report.called_from("keep_block").allocated_blocks > before + more);
            }
        }
        let _: Report = agent.interrupt();
    }
}
