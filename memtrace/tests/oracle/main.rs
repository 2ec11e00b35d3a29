//! Whole walks against what others make of the same stack, on a program that has every kind of frame: the program's
//! own `backtrace()`, and framehop over a copy of the stack.

mod reference;

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use memtrace::internals::{BpfEvent, Config, Events, Options, Process, Session};
use memtrace_common::{EXACT, WalkEnd};
use reference::{Reference, Start};

/// The fixture's blocks have this size and their case's number more; nothing else there is as large.
const SIZE: u64 = 1 << 20;
const CASES: u64 = 17;
/// Stacks that framehop leaves early: that with a frame of 700 KiB.
const UNKNOWN: usize = 1;

/// Of one allocation: both stacks, innermost first.
#[derive(Default)]
struct Case {
    walked: Vec<u64>,
    end: Option<WalkEnd>,
    backtrace: Vec<u64>,
}

fn compile(name: &str, flags: &[&str]) -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/stacks.cpp");
    let status = Command::new("c++").args(flags).arg(source).arg("-o").arg(&program).arg("-pthread").status();
    assert!(status.unwrap().success());
    program
}

fn session(child: &Child, config: Config) -> (Session, Events) {
    let config = Config { min_size: SIZE, ..config };
    let mut session = Session::new(Options { config, ..Options::default() }, |_| {}).unwrap();
    let events = session.events().unwrap();
    session.attach(Process::open(child.id()).unwrap()).unwrap();
    (session, events)
}

/// Runs the fixture; what it printed, and the events meanwhile.
fn trace(program: &Path, config: Config, mut each: impl FnMut(&mut Session, u32, BpfEvent)) -> String {
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    // It has called backtrace() once, and waits.
    let state = format!("/proc/{}/wchan", child.id());
    let end = Instant::now() + memtrace_tests::limit();
    while !std::fs::read_to_string(&state).unwrap_or_default().contains("pipe") {
        assert!(Instant::now() < end, "the fixture does not wait for its input");
        thread::sleep(Duration::from_millis(5));
    }
    let (mut session, mut events) = session(&child, config);
    let mut input = child.stdin.take().unwrap();
    input.write_all(b"\n").unwrap();
    let reader = thread::spawn(move || {
        let mut text = String::new();
        while !text.ends_with("done\n") {
            assert_ne!(output.read_line(&mut text).unwrap(), 0, "the fixture ended: {text}");
        }
        text
    });
    let end = Instant::now() + memtrace_tests::limit();
    loop {
        assert!(Instant::now() < end, "the fixture is not done");
        let finished = reader.is_finished();
        while let Some(event) = events.next() {
            each(&mut session, child.id(), event);
        }
        if finished {
            break;
        }
        thread::sleep(Duration::from_millis(2));
    }
    drop(input);
    child.wait().unwrap();
    reader.join().unwrap()
}

fn cases(program: &Path) -> BTreeMap<u64, Case> {
    let mut stacks = BTreeMap::new();
    let mut cases: BTreeMap<u64, Case> = BTreeMap::new();
    let text = trace(program, Config { trace: true, ..Config::default() }, |session, _, event| {
        match &event {
            BpfEvent::Stack { slot, end, pcs, .. } => {
                stacks.insert(*slot, (*end, pcs.clone()));
            }
            BpfEvent::Trace { freed: false, size, slot, .. } => {
                let (end, pcs) = stacks.get(slot).cloned().unwrap();
                let walked = pcs.iter().map(|pc| pc & !EXACT).collect();
                cases.insert(size - SIZE, Case { walked, end: Some(end), backtrace: Vec::new() });
            }
            _ => {}
        }
        session.take_event(event);
    });
    for line in text.lines() {
        let Some((number, addresses)) = line.split_once(": ") else { continue };
        let backtrace =
            addresses.split(' ').map(|address| u64::from_str_radix(address, 16).unwrap()).collect();
        cases.entry(number.parse().unwrap()).or_default().backtrace = backtrace;
    }
    cases
}

fn agrees_with_backtrace(name: &str, flags: &[&str]) {
    let cases = cases(&compile(name, flags));
    assert_eq!(cases.keys().copied().collect::<Vec<_>>(), (1..=CASES).collect::<Vec<_>>());
    let mut wrong = Vec::new();
    for (number, case) in cases {
        let same = case.walked.get(1..) == case.backtrace.get(1..)
            && case.walked[0].abs_diff(case.backtrace[0]) < 256
            && case.end == Some(WalkEnd::Complete);
        if !same {
            wrong.push(format!(
                "case {number}, {:?}\n walked {:x?}\n backtrace {:x?}",
                case.end, case.walked, case.backtrace
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn walks_are_what_the_program_says_without_frame_pointers() {
    if !memtrace_tests::can_trace() {
        return;
    }
    agrees_with_backtrace("stacks-omit", &["-O2", "-fomit-frame-pointer"]);
}

#[test]
fn walks_are_what_the_program_says_at_another_optimization() {
    if !memtrace_tests::can_trace() {
        return;
    }
    agrees_with_backtrace("stacks-O3", &["-O3", "-fomit-frame-pointer", "-static-pie"]);
    agrees_with_backtrace("stacks-O0", &["-O0"]);
}

#[test]
fn walks_are_what_another_unwinder_finds_in_the_same_memory() {
    if !memtrace_tests::can_trace() {
        return;
    }
    let program = compile("stacks-reference", &["-O2", "-fomit-frame-pointer"]);
    let mut reference = Reference::default();
    let (mut compared, mut shorter) = (0, 0);
    let mut wrong = Vec::new();
    trace(&program, Config { oracle: true, ..Config::default() }, |session, pid, event| {
        if let BpfEvent::Oracle { end, pcs, sp, fp, base, stack, .. } = &event {
            let exact: Vec<u64> = pcs.iter().map(|pc| pc & !EXACT).collect();
            reference.learn(pid, &exact);
            compared += 1;
            let found = reference.walk(&Start { sp: *sp, fp: *fp, base: *base, stack, pcs });
            // It does not know signal frames either: what it finds past one is not looked at.
            let signal = pcs.iter().position(|pc| pc & EXACT != 0);
            let same = match signal {
                Some(signal) => found.pcs.get(..signal) == pcs.get(..signal),
                None => pcs.starts_with(&found.pcs),
            };
            shorter += usize::from(same && signal.is_none() && found.pcs.len() < pcs.len());
            if !same || *end != WalkEnd::Complete {
                wrong.push(format!("{end:?} {pcs:x?}\n{:x?} {:?}", found.pcs, found.error));
            }
        }
        session.take_event(event);
    });
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Besides the cases, what the program maps itself: stacks of threads.
    assert!(compared >= CASES, "{compared} walks");
    assert_eq!(shorter, UNKNOWN);
}
