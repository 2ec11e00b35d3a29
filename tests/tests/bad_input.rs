//! Failures are reported in one line, with the right exit status and without a panic.

use std::{
    ffi::{OsStr, OsString},
    fs,
    os::unix::{ffi::OsStringExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use memtrace_tests::{
    CSource, Finished, Running, agent_path, assert_refused, assert_usage, can_trace, compile, fixture,
    memtrace, proc, spinning_elf32, spinning_elf64, unprivileged,
};
use nix::{
    sys::{signal::Signal, stat::Mode},
    unistd::mkfifo,
};

const FAILED: i32 = 1;
const USAGE: i32 = 2;

fn attach(pid: u32) -> Finished {
    memtrace(["attach", &pid.to_string(), "-n", "1", "-i", "100ms"])
}

fn write_program(directory: &Path, bytes: &[u8]) -> PathBuf {
    let path = directory.join("program");
    fs::write(&path, bytes).expect("a program can be written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its permissions");
    path
}

/// Starts a program that says nothing, and waits until it is itself.
fn start_silent(program: &Path) -> Running {
    let running = Running::spawn(&mut Command::new(program));
    let exe = format!("/proc/{}/exe", running.pid());
    let expected = program.canonicalize().expect("the program is there");
    let end = Instant::now() + memtrace_tests::limit();
    while fs::read_link(&exe).is_ok_and(|path| path != expected) {
        assert!(Instant::now() < end, "{} did not start", program.display());
        std::thread::yield_now();
    }
    running
}

#[test]
fn without_privileges() {
    let target = fixture::start("lifecycle", &["fork"]);
    let pid = OsString::from(target.pid().to_string());
    let commands: [&[&OsStr]; 4] = [
        &["attach".as_ref(), &pid],
        &["run".as_ref(), "--".as_ref(), "true".as_ref()],
        &["demo".as_ref()],
        &["memleak".as_ref(), "-p".as_ref(), &pid],
    ];
    for command in commands {
        assert_refused(&unprivileged(command), FAILED, "root");
    }
}

#[test]
fn check_without_privileges_says_what_to_do() {
    let finished = unprivileged(&["check"]);
    assert_eq!(finished.status, FAILED, "{}", finished.stderr);
    assert!(finished.stdout.contains("NO") && finished.stdout.contains("root"), "{}", finished.stdout);
    assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
}

#[test]
fn no_such_process() {
    // Larger than any kernel's limit, and what signals would take for something else.
    for pid in [4_194_305, 0, 2_147_483_648, u32::MAX] {
        assert_refused(&attach(pid), FAILED, "no process");
    }
}

#[test]
fn kernel_thread() {
    if fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm == "kthreadd\n") {
        assert_refused(&attach(2), FAILED, "kernel thread");
    }
}

#[test]
fn zombie() {
    let mut target = Running::spawn(&mut Command::new("true"));
    target.wait_until_dead();
    assert_eq!(proc::state(target.pid()), Some('Z'));
    assert_refused(&attach(target.pid()), FAILED, "zombie");
}

#[test]
fn thread_instead_of_process() {
    let mut target = fixture::start("lifecycle", &["thread"]);
    let line = fixture::work(&mut target);
    assert_refused(&attach(line.parse().expect("a tid")), FAILED, &format!("use {}", target.pid()));
}

#[test]
fn same_process_twice() {
    if !can_trace() {
        return;
    }
    let target = fixture::start("lifecycle", &["fork"]);
    let pid = target.pid().to_string();
    assert_refused(&memtrace(["attach", &pid, &pid]), FAILED, "twice");
}

/// Whatever the moment, the answer is a report or one line.
#[test]
fn target_that_exits_while_it_is_attached_to() {
    if !can_trace() {
        return;
    }
    for round in 0..40_u32 {
        let target = fixture::start("lifecycle", &["fork"]);
        let mut command = Command::new(agent_path());
        command.args(["attach", &target.pid().to_string(), "-n", "1", "-i", "100ms"]);
        let agent = Running::spawn(&mut command);
        let moment = Instant::now() + Duration::from_millis(5) * round;
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        target.signal(Signal::SIGKILL);
        if round % 2 == 0 {
            // Otherwise it is a zombie until the end of the round.
            drop(target);
        }
        let finished = agent.finish();
        assert!(!finished.stderr.contains("panicked"), "{}", finished.stderr);
        if finished.status == 0 {
            assert!(finished.stdout.contains("Outstanding"), "{}{}", finished.stdout, finished.stderr);
        } else {
            assert_refused(&finished, FAILED, "");
        }
    }
}

/// A list of processes is old when it is read: those that have exited do not keep the others from being traced.
#[test]
fn some_of_several_have_exited() {
    if !can_trace() {
        return;
    }
    let mut dead = Running::spawn(&mut Command::new("true"));
    dead.wait_until_dead();
    let target = fixture::start("lifecycle", &["fork"]);
    let (zombie, living) = (dead.pid().to_string(), target.pid().to_string());
    let report = ["-n", "1", "-i", "100ms"];
    let finished = memtrace([&["attach", "4194305", &zombie, &living], &report[..]].concat());
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stderr.contains("no process 4194305"), "{}", finished.stderr);
    assert!(finished.stderr.contains(&format!("process {zombie} (true) is a zombie")), "{}", finished.stderr);
    assert!(finished.stdout.contains("Outstanding"), "{}{}", finished.stdout, finished.stderr);
    assert_refused(&memtrace(["attach", "4194305", &zombie]), FAILED, "zombie");
}

/// Nor do those that exit while they are attached to.
#[test]
fn one_of_several_exits_while_they_are_attached_to() {
    if !can_trace() {
        return;
    }
    for round in 0..20_u32 {
        let [dying, living] = [0, 1].map(|_| fixture::start("lifecycle", &["fork"]));
        let mut command = Command::new(agent_path());
        command.args([
            "attach",
            &dying.pid().to_string(),
            &living.pid().to_string(),
            "-n",
            "1",
            "-i",
            "100ms",
        ]);
        let agent = Running::spawn(&mut command);
        let moment = Instant::now() + Duration::from_millis(10) * round;
        while Instant::now() < moment {
            std::thread::yield_now();
        }
        dying.signal(Signal::SIGKILL);
        let finished = agent.finish();
        assert_eq!(finished.status, 0, "{round}: {}", finished.stderr);
        assert!(finished.stdout.contains("Outstanding"), "{}{}", finished.stdout, finished.stderr);
    }
}

#[test]
fn program_of_32_bits() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = write_program(directory.path(), &spinning_elf32());
    let Ok(status) = Command::new(&program).spawn().map(drop_at_once) else {
        return; // This kernel runs no 32-bit programs.
    };
    status.expect("it was killed");
    let target = start_silent(&program);
    assert_refused(&attach(target.pid()), FAILED, "64-bit");
    if can_trace() {
        assert_refused(&memtrace([OsStr::new("run"), "--".as_ref(), program.as_os_str()]), FAILED, "64-bit");
    }
}

fn drop_at_once(mut child: std::process::Child) -> std::io::Result<std::process::ExitStatus> {
    child.kill()?;
    child.wait()
}

#[test]
fn program_without_an_allocator() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let program = write_program(directory.path(), &spinning_elf64());
    let target = start_silent(&program);
    assert_refused(&attach(target.pid()), FAILED, "no allocator");
    let run = [OsStr::new("run"), "--no-follow".as_ref(), "--".as_ref(), program.as_os_str()];
    assert_refused(&memtrace(run), FAILED, "no allocator");
}

/// A program that has been started, but does not have its libraries yet: the loader waits for a file.
#[test]
fn program_that_is_being_loaded() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let fifo = directory.path().join("library.so");
    mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).expect("a FIFO");
    let mut target = Running::spawn(Command::new("sleep").arg("100").env("LD_PRELOAD", &fifo));
    let mut command = Command::new(agent_path());
    command.args(["attach", &target.pid().to_string(), "-n", "1", "-i", "100ms"]);
    let agent = Running::spawn(&mut command);
    std::thread::sleep(Duration::from_secs(1));
    drop(fs::OpenOptions::new().write(true).open(&fifo).expect("a reader"));
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert!(finished.stdout.contains("Outstanding"), "{}{}", finished.stdout, finished.stderr);
    target.signal(Signal::SIGKILL);
    target.wait_until_dead();
}

#[test]
fn static_program_without_symbols() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let source = CSource { file: "inlined.c", options: &["-O2", "-static", "-s"] };
    let program = compile(directory.path(), "inlined", source);
    let target = fixture::start_path(&program, &[]);
    assert_refused(&attach(target.pid()), FAILED, "no allocator");
}

/// Runs a line of shell in which `$memtrace` is the agent and `$pid` a target.
fn shell(script: &str) -> Finished {
    let target = fixture::start("lifecycle", &["fork"]);
    let mut command = Command::new("bash");
    command.args(["-c", script]).env("memtrace", agent_path()).env("pid", target.pid().to_string());
    Running::spawn(&mut command).finish()
}

#[test]
fn unwritable_output() {
    if !can_trace() {
        return;
    }
    for arguments in [
        "attach $pid -i 100ms",
        "attach $pid -f json -i 100ms",
        "memleak -p $pid 1",
        "check",
        "check --pid $pid",
    ] {
        assert_refused(
            &shell(&format!(
                "\"$memtrace\" {arguments} 2> >(grep -v -e '; a report every' -e ' calls ' >&2) > /dev/full"
            )),
            FAILED,
            "",
        );
    }
}

/// The reader has seen enough: no error.
#[test]
fn closed_output() {
    if !can_trace() {
        return;
    }
    for arguments in [
        "attach $pid -i 50ms",
        "attach $pid -f json -i 50ms",
        "memleak -p $pid 1",
        "check",
        "check --pid $pid",
        "--help",
    ] {
        let finished =
            shell(&format!("\"$memtrace\" {arguments} | head -1 > /dev/null; exit ${{PIPESTATUS[0]}}"));
        assert!(!finished.stderr.contains("panicked"), "{arguments}: {}", finished.stderr);
        assert_eq!(finished.status, 0, "{arguments}: {}", finished.stderr);
    }
}

#[test]
fn numbers_out_of_range() {
    for options in [
        &["-i", "0"][..],
        &["-i", "0s"],
        &["-i", "-1"],
        &["-i", "1e400"],
        &["-i", "99999999999999999999999y"],
        &["-n", "0"],
        &["-n", "-1"],
        &["-d", "0"],
        &["-z", "10", "-Z", "5"],
        &["-z", "99999999999999999999"],
        &["-Z", "99999999999999999999EiB"],
        &["-z", "-1"],
        &["-T", "-1"],
        &["-T", "99999999999999999999"],
        &["-o", "soon"],
        &["--max-live", "0"],
        &["--max-live", "4294967295"],
        &["--max-stacks", "0"],
        &["--max-stacks", "4294967295"],
        &["--sort", "name"],
        &["--format", "xml"],
        &["--no-such-option"],
    ] {
        let arguments = ["attach", "1"].iter().chain(options);
        assert_refused(&memtrace(arguments), USAGE, "");
    }
    for options in
        [&["-p", "1", "0"][..], &["-p", "1", "1", "0"], &["-p", "1", "-z", "2", "-Z", "1"], &["-c", ""]]
    {
        assert_refused(&memtrace(["memleak"].iter().chain(options)), USAGE, "");
    }
}

#[test]
fn arguments_missing_or_strange() {
    for arguments in [
        &["attach"][..],
        &["attach", "x"],
        &["attach", "-1"],
        &["run"],
        &["frobnicate"],
        &["attach", "99999999999"],
    ] {
        assert_usage(&memtrace(arguments));
    }
    let strange = OsString::from_vec(vec![b'4', 0xff]);
    for command in ["attach", "memleak", "check", "\u{1b}[31m"] {
        assert_usage(&memtrace([OsStr::new(command), "-p".as_ref(), &strange]));
    }
    assert_usage(&memtrace([OsStr::new("attach"), &strange]));
}

#[test]
fn commands_that_cannot_be_run() {
    if !can_trace() {
        return;
    }
    assert_refused(&memtrace(["run", "--", "/nonexistent"]), FAILED, "/nonexistent");
    assert_refused(&memtrace(["run", "--", "no-such-command-anywhere"]), FAILED, "no-such-command-anywhere");
    assert_refused(&memtrace(["run", "--", "/etc/passwd"]), FAILED, "/etc/passwd");
    assert_refused(&memtrace(["run", "--", ""]), FAILED, "");
    assert_refused(&memtrace(["run", "--", "/"]), FAILED, "");
    assert_refused(&memtrace(["run", "--user", "no-such-user", "--", "true"]), FAILED, "no-such-user");
    assert_refused(&memtrace(["memleak", "-c", "/nonexistent"]), FAILED, "/nonexistent");
    assert_refused(&memtrace(["memleak", "-c", "'unmatched"]), FAILED, "quotes");
}
