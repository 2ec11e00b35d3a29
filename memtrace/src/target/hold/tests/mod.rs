//! Commands that end in every way, held at their ends. Nothing here needs privileges: they are children.

mod agent;

use std::{
    fs,
    os::fd::AsRawFd as _,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use memtrace_tests::{CSource, compile, limit};
use nix::sys::signal::{Signal, kill};

use crate::{
    model::ThreadRegisters,
    target::{Hold, Launch, Launched, Progress},
};

const MARK: u64 = 0x6d65_6d74_7261_6365;

/// The program of `tests/c/ends.c`, ending in one way.
struct Program {
    directory: tempfile::TempDir,
    path: PathBuf,
    way: &'static str,
}

impl Program {
    fn new(way: &'static str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = compile(directory.path(), "ends", CSource { file: "ends.c", options: &["-O1"] });
        Self { directory, path, way }
    }

    fn arguments(&self) -> [std::ffi::OsString; 3] {
        [self.path.clone().into(), self.way.into(), self.output().into()]
    }

    fn output(&self) -> PathBuf {
        self.directory.path().join("output")
    }

    fn said(&self) -> String {
        fs::read_to_string(self.output()).unwrap_or_default()
    }

    /// What it said except for addresses and pids.
    fn words(&self) -> Vec<String> {
        let said = self.said();
        let lines = said.lines().filter(|line| !line.starts_with("mark") && !line.starts_with("waiting"));
        lines.map(str::to_owned).collect()
    }

    /// Waits until it has said a word, and returns the number behind it.
    fn when_said(&self, word: &str) -> u64 {
        until(|| {
            let said = self.said();
            let line = said.lines().find_map(|line| line.strip_prefix(word)?.strip_prefix(' '))?;
            line.parse().ok()
        })
    }

    /// Runs it without a tracer. Returns its status as a shell does.
    fn alone(&self, act: impl FnOnce(u32)) -> (u8, Vec<String>) {
        use std::os::unix::process::ExitStatusExt as _;
        let _ = fs::remove_file(self.output());
        let [path, arguments @ ..] = self.arguments();
        let mut child = Command::new(path).args(arguments).spawn().unwrap();
        act(child.id());
        let status = child.wait().unwrap();
        self.settle();
        let status = status.code().unwrap_or_else(|| 128 + status.signal().unwrap());
        (u8::try_from(status).unwrap(), self.words())
    }

    fn launch(&self) -> (Launched, Hold) {
        let _ = fs::remove_file(self.output());
        launch(&self.arguments())
    }

    /// A child may outlive the program.
    fn settle(&self) {
        if self.way == "children" {
            self.when_said("outlived");
        }
    }
}

fn launch(arguments: &[std::ffi::OsString]) -> (Launched, Hold) {
    let mut launched = Launch::new(arguments.to_vec(), None).start().unwrap();
    while launched.step().unwrap() != Progress::Ready {}
    let hold = launched.release_until_exit(limit()).unwrap();
    (launched, hold)
}

/// Waits for something.
fn until<T>(mut get: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit();
    loop {
        if let Some(value) = get() {
            return value;
        }
        assert!(Instant::now() < end, "it does not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn is_readable(hold: &Hold, milliseconds: i32) -> bool {
    let mut poll = libc::pollfd { fd: hold.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one valid entry.
    unsafe { libc::poll(&raw mut poll, 1, milliseconds) == 1 }
}

fn held(hold: &Hold) -> Vec<ThreadRegisters> {
    assert!(is_readable(hold, limit().as_millis().try_into().unwrap()), "neither held nor ended");
    hold.threads().expect("it ended without being held")
}

/// A word of another process, by the id of one of its threads.
fn word_at(tid: u32, address: u64) -> Result<u64, std::io::Error> {
    let mut word = 0_u64;
    let local = libc::iovec { iov_base: (&raw mut word).cast(), iov_len: 8 };
    let remote = libc::iovec { iov_base: address as usize as *mut _, iov_len: 8 };
    // SAFETY: eight bytes can be written to `word`.
    let read = unsafe { libc::process_vm_readv(tid as i32, &raw const local, 1, &raw const remote, 1, 0) };
    if read == 8 { Ok(word) } else { Err(std::io::Error::last_os_error()) }
}

/// Checks that a held program has its memory, and the registers of `threads` threads, of which `keepers` have a known
/// word in one.
fn check(
    program: &Program,
    launched: &Launched,
    registers: &[ThreadRegisters],
    threads: usize,
    keepers: u64,
) {
    let way = program.way;
    assert_eq!(registers.len(), threads, "{way}: {registers:x?}");
    let address = program.said().lines().rev().find_map(|line| line.strip_prefix("mark ")?.parse().ok());
    for thread in registers {
        assert_eq!(word_at(thread.tid, address.unwrap()).unwrap(), MARK, "{way}");
        let (sp, tls) = (thread.sp.unwrap(), thread.tls.unwrap());
        let task = format!("/proc/{}/task/{}", launched.id(), thread.tid);
        let maps = fs::read_to_string(format!("{task}/maps")).unwrap();
        assert!(maps.contains("[heap]") || maps.contains("[stack]"), "{way}: {maps}");
        assert!(word_at(thread.tid, sp).is_ok() && word_at(thread.tid, tls).is_ok(), "{way}");
        assert!(thread.words.contains(&sp) && thread.words.len() > 64, "{way}");
        // Held, and not only on its way.
        let status = fs::read_to_string(format!("{task}/status")).unwrap();
        assert!(status.contains("State:\tt (tracing stop)"), "{way}: {status}");
    }
    assert!(registers.iter().any(|thread| crate::target::threads::living(launched.id()) == Some(thread.tid)));
    // Elsewhere the program does not choose the register.
    for keeper in 1..=if cfg!(target_arch = "x86_64") { keepers } else { 0 } {
        assert!(registers.iter().any(|thread| thread.words.contains(&(MARK ^ keeper))), "{way}: {keeper}");
    }
}

/// Runs a program held and alone, and compares.
fn same_as_alone(way: &'static str, act: fn(u32), threads: usize, keepers: u64) -> (u8, Vec<String>) {
    let program = Program::new(way);
    let ready = |pid| {
        if way == "wait" || way == "signals" {
            assert_eq!(program.when_said("waiting"), u64::from(pid));
        }
        act(pid);
    };
    let alone = program.alone(ready);
    let (launched, hold) = program.launch();
    ready(launched.id());
    let registers = held(&hold);
    check(&program, &launched, &registers, threads, keepers);
    assert!(launched.exit_status().is_none(), "{way}");
    drop(hold);
    let status = launched.wait();
    program.settle();
    assert_eq!((status, program.words()), alone, "{way}");
    alone
}

fn signal(pid: u32, signal: Signal) {
    kill(nix::unistd::Pid::from_raw(pid as i32), signal).unwrap();
}

fn nothing(_: u32) {}

#[test]
fn ends_by_itself() {
    assert_eq!(same_as_alone("return", nothing, 1, 0), (7, vec![]));
    assert_eq!(same_as_alone("worker", nothing, 5, 3), (9, vec![]));
    assert_eq!(same_as_alone("many", nothing, 50, 49), (3, vec![]));
}

#[test]
fn ends_by_a_signal() {
    assert_eq!(same_as_alone("segv", nothing, 3, 2), (128 + 11, vec![]));
    assert_eq!(same_as_alone("abort", nothing, 1, 0), (128 + 6, vec![]));
    assert_eq!(same_as_alone("wait", |pid| signal(pid, Signal::SIGKILL), 3, 2), (128 + 9, vec![]));
    assert_eq!(same_as_alone("wait", |pid| signal(pid, Signal::SIGTERM), 3, 2), (128 + 15, vec![]));
}

/// The main thread has ended and is a zombie; memory is read by the id of another.
#[test]
fn ends_with_its_last_thread() {
    assert_eq!(same_as_alone("main_first", nothing, 1, 0), (0, vec!["last 0".to_owned()]));
}

/// The threads that end because another executes a program are not held.
#[test]
fn executes_from_a_thread() {
    let begun = Instant::now();
    assert_eq!(same_as_alone("exec", nothing, 1, 0), (7, vec![]));
    assert!(begun.elapsed() < Duration::from_secs(20));
}

#[test]
fn threads_come_and_go() {
    assert_eq!(same_as_alone("churn", nothing, 1, 0), (4, vec![]));
}

/// They are not traced, and outlive their parent.
#[test]
fn children_are_left_alone() {
    let words = ["sum 190", "system 5", "outlived 1"].map(str::to_owned);
    assert_eq!(same_as_alone("children", nothing, 1, 0), (6, words.to_vec()));
}

#[test]
fn signals_arrive_as_they_were_sent() {
    let act = |pid: u32| {
        let queue = |signal: i32, value: usize| {
            let value = libc::sigval { sival_ptr: value as *mut _ };
            // SAFETY: the call reads integers.
            assert_eq!(unsafe { libc::sigqueue(pid as i32, signal, value) }, 0);
            std::thread::sleep(Duration::from_millis(50));
        };
        queue(libc::SIGUSR1, 5);
        queue(libc::SIGRTMIN() + 3, 6);
        queue(libc::SIGTERM, 7);
        signal(pid, Signal::SIGUSR1);
        std::thread::sleep(Duration::from_millis(50));
        signal(pid, Signal::SIGKILL);
    };
    let (status, words) = same_as_alone("signals", act, 1, 0);
    assert_eq!((status, words.len()), (128 + 9, 4), "{words:?}");
    assert!(words.iter().take(3).all(|line| line.starts_with("queued ")), "{words:?}");
}

/// Nothing fails that would not without a tracer.
#[test]
fn calls_are_interrupted_as_they_would_be() {
    let words = ["ignored 0", "signal 14000", "handled 4"].map(str::to_owned);
    assert_eq!(same_as_alone("interrupted", nothing, 1, 0), (0, words.to_vec()));
}

/// As job control needs it: every thread stops, stays stopped, and goes on.
#[test]
fn stops_and_continues() {
    for stop in [Signal::SIGSTOP, Signal::SIGTSTP] {
        let program = Program::new("wait");
        let (launched, hold) = program.launch();
        program.when_said("waiting");
        let states = || -> Vec<char> {
            let tasks = fs::read_dir(format!("/proc/{}/task", launched.id())).unwrap();
            let states = tasks.filter_map(|task| {
                let stat = fs::read_to_string(task.ok()?.path().join("stat")).ok()?;
                stat.rsplit(") ").next()?.chars().next()
            });
            states.collect()
        };
        for _ in 0..3 {
            signal(launched.id(), stop);
            until(|| states().iter().all(|state| matches!(state, 'T' | 't')).then_some(()));
            std::thread::sleep(Duration::from_millis(100));
            assert!(states().iter().all(|state| matches!(state, 'T' | 't')), "{:?}", states());
            signal(launched.id(), Signal::SIGCONT);
            until(|| states().iter().all(|state| *state == 'S').then_some(()));
        }
        // Killed while it is stopped, it is held as well.
        signal(launched.id(), stop);
        until(|| states().iter().all(|state| matches!(state, 'T' | 't')).then_some(()));
        signal(launched.id(), Signal::SIGKILL);
        check(&program, &launched, &held(&hold), 3, 2);
        drop(hold);
        assert_eq!(launched.wait(), 128 + 9);
    }
}

/// A program that is let go before its end is not held there; nor is one that nobody wants to hold.
#[test]
fn not_held_if_let_go() {
    let program = Program::new("wait");
    let (launched, hold) = program.launch();
    program.when_said("waiting");
    drop(hold);
    signal(launched.id(), Signal::SIGTERM);
    assert_eq!(launched.wait(), 128 + 15);
    let _ = fs::remove_file(program.output());
    let mut launched = Launch::new(program.arguments().to_vec(), None).start().unwrap();
    launched.release().unwrap();
    assert!(launched.release_until_exit(limit()).is_err());
    program.when_said("waiting");
    assert_eq!(memtrace_tests::proc::status(launched.id(), "TracerPid").as_deref(), Some("0"));
    launched.kill();
    assert_eq!(launched.wait(), 128 + 9);
}

#[test]
fn held_for_a_time_at_most() {
    let program = Program::new("return");
    let mut launched = Launch::new(program.arguments().to_vec(), None).start().unwrap();
    while launched.step().unwrap() != Progress::Ready {}
    let hold = launched.release_until_exit(Duration::from_millis(200)).unwrap();
    held(&hold);
    assert_eq!((launched.wait(), hold.threads()), (7, None));
}

#[test]
fn killed_once_more_while_it_is_held() {
    let program = Program::new("many");
    let (launched, hold) = program.launch();
    held(&hold);
    signal(launched.id(), Signal::SIGKILL);
    // A thread that is not woken by it is let go: nobody waits for the limit.
    drop(hold);
    assert_eq!(launched.wait(), 3);
    let program = Program::new("wait");
    let (mut launched, hold) = program.launch();
    program.when_said("waiting");
    launched.kill();
    assert_eq!((launched.wait(), hold.threads()), (128 + 9, None));
}
