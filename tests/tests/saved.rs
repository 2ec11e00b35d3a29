//! Saved sessions: `--save FILE`, `memtrace report FILE`.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{
    CSource, Finished, Report, Running, agent_path, can_trace, compile, fixture, memtrace,
    saved::{attach, last_text, report, shown, wait_for_report},
    shared_directory, unprivileged,
};
use nix::sys::signal::Signal;

/// Functions of the program, and the bytes that each keeps in two rounds.
const KEPT: [(&str, u64); 5] =
    [("keep_large", 6000), ("keep_small", 1000), ("keep_more", 600), ("dropped", 100), ("handle_request", 0)];

/// A directory that every user can read, a program in it, and the path of a file that does not exist.
fn place() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let directory = shared_directory();
    let source = CSource { file: "builds.c", options: &["-O1", "-g"] };
    let program = compile(directory.path(), "builds", source);
    let file = directory.path().join("session.mt");
    (directory, program, file)
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Lets a program work for two rounds, with reports between them, and end. Returns what the agent printed.
fn finish(mut target: Running, agent: Running, file: &Path) -> String {
    for _ in 0..2 {
        wait_for_report(file);
        fixture::work(&mut target);
    }
    assert_eq!(target.finish().status, 0);
    let finished = agent.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    finished.stdout
}

/// Saves a session of two rounds of the program. Returns the reports as they were shown.
fn save(program: &Path, file: &Path, options: &[&str]) -> String {
    let target = fixture::start_path(program, &[]);
    let agent = attach(&[target.pid()], file, options);
    finish(target, agent, file)
}

/// What each function of the program keeps.
#[track_caller]
fn assert_kept(report: &Report) {
    for (function, bytes) in KEPT {
        assert_eq!(report.called_from(function).bytes, bytes, "{function}: {:?}", report.callers());
    }
}

fn lines(finished: &Finished) -> Vec<&str> {
    finished.stderr.lines().collect()
}

/// Each report is saved as it was shown, to the byte, and nobody else can read the file.
#[test]
fn attach_in_json() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let live = save(&program, &file, &["-f", "json", "-T", "0"]);
    let reports: Vec<&str> = live.lines().collect();
    assert!(reports.len() >= 3, "{live}");
    for (at, live) in (1..).zip(&reports) {
        let at = format!("--at={at}");
        assert_eq!(shown(&file, &["-f", "json", "-T", "0", &at]).trim_end(), *live);
    }
    let last = shown(&file, &["-f", "json", "-T", "0"]);
    assert_eq!(Some(&last.trim_end()), reports.last());
    assert_kept(&Report::parse(&last));
    assert_eq!(fs::metadata(&file).expect("the file").permissions().mode() & 0o7777, 0o600);
}

/// The same text, painted or not, by a user without privileges, once the program is gone.
#[test]
fn attach_in_text() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let live = save(&program, &file, &["--color", "always", "-T", "4"]);
    fs::remove_file(&program).expect("the program is there");
    let options = ["--color", "always", "-T", "4"];
    let reports: Vec<String> = (1..=live.matches("Outstanding").count())
        .map(|at| shown(&file, &[&options[..], &["--at", &at.to_string()]].concat()))
        .collect();
    assert!(reports.len() >= 3 && reports.concat() == live, "{live}\n--- saved\n{}", reports.concat());
    let everybody = file.with_extension("copy");
    fs::copy(&file, &everybody).expect("a copy");
    fs::set_permissions(&everybody, fs::Permissions::from_mode(0o644)).expect("its permissions");
    let finished = unprivileged(&[&["report", text(&everybody)], &options[..]].concat());
    assert_eq!((finished.status, finished.stderr.as_str()), (0, ""));
    assert_eq!(Some(&finished.stdout), reports.last());
    assert!(
        finished.stdout.contains("keep_large") && finished.stdout.contains("builds.c:"),
        "{}",
        finished.stdout
    );
}

/// The same where the target has a file system of its own, which is gone with it.
#[test]
fn a_file_system_of_its_own() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let hidden = tempfile::tempdir().expect("a temporary directory");
    let script = "mount -t tmpfs none \"$2\" && mv \"$1\" \"$2/builds\" && exec \"$2/builds\"";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(program).arg(hidden.path());
    let mut target = Running::spawn(&mut command);
    let _: String = target.line_with("ready");
    let agent = attach(&[target.pid()], &file, &["-T", "0"]);
    let live = finish(target, agent, &file);
    assert_eq!(shown(&file, &["-T", "0"]), last_text(&live));
    assert!(live.contains("keep_large") && live.contains("builds.c:"), "{live}");
}

/// Where there is no room to save them, reports go on, and the session says so at its end.
#[test]
fn no_room_for_more() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let mut target = Running::spawn(&mut Command::new(program));
    let _: String = target.line_with("ready");
    let mut command = Command::new("sh");
    // In blocks of 512 bytes. The signal that comes with the limit is ignored, so that writing fails.
    command.args(["-c", "trap '' XFSZ; ulimit -f 12; exec \"$@\"", "sh"]).arg(agent_path());
    command.args(["attach", &target.pid().to_string(), "-i", "200ms", "-n", "20", "-f", "json", "--save"]);
    let finished = Running::spawn(command.arg(&file)).finish();
    assert_eq!(finished.status, 1, "{}", finished.stderr);
    assert_eq!(finished.stdout.lines().count(), 20, "{}", finished.stderr);
    let said = "cannot save the report";
    assert_eq!(finished.stderr.matches(said).count(), 2, "{}", finished.stderr);
    assert!(shown(&file, &["-f", "json"]).starts_with("{\"schema\":1,"));
}

#[test]
fn run() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let live = file.with_extension("live");
    let options = ["--max-overhead", "off", "-T", "0", "--save", text(&file), "-O", text(&live)];
    let script = "printf '\\n\\n' | \"$1\"; rm \"$1\"";
    let rest = ["--", "sh", "-c", script, "sh", text(&program)];
    let finished = memtrace([&["run"], &options[..], &rest].concat());
    // What it is that is traced here is the shell.
    assert_eq!(
        (finished.status, finished.stdout.as_str()),
        (0, "ready\ndone\ndone\n"),
        "{}",
        finished.stderr
    );
    let live = fs::read_to_string(live).expect("the reports");
    assert_eq!(shown(&file, &["-T", "0"]), last_text(&live));
}

#[test]
fn kernel() {
    if !can_trace() {
        return;
    }
    let (_directory, _, file) = place();
    let live = file.with_extension("live");
    let mut target = fixture::start("kernel_leaks", &["pipes", "500"]);
    let pid = target.pid().to_string();
    for format in ["text", "json"] {
        let mut command = Command::new(memtrace_tests::agent_path());
        command.args(["kernel", "--pid", &pid, "-i", "200ms", "-f", format, "-n", "4"]);
        command.args(["--save", text(&file), "-O", text(&live)]);
        let agent = Running::spawn(&mut command);
        wait_for_report(&file);
        if format == "text" {
            fixture::work(&mut target);
        }
        let finished = agent.finish();
        assert_eq!((finished.status, finished.stdout.as_str()), (0, ""), "{}", finished.stderr);
        let written = fs::read_to_string(&live).expect("the reports");
        let last = if format == "text" { last_text(&written) } else { &written };
        assert_eq!(shown(&file, &["-f", format]), last);
        assert!(format == "json" || written.contains("alloc_pipe_info"), "{written}");
        for name in [&file, &live] {
            fs::remove_file(name).expect("the file is there");
        }
    }
}

/// What is shown of a saved report is chosen anew: everything is in the file.
#[test]
fn selection() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let targets = [fixture::start_path(&program, &[]), fixture::start_path(&program, &[])];
    let pids = [targets[0].pid(), targets[1].pid()];
    // The second works for one round, the first for two.
    let agent = attach(&pids, &file, &["-T", "1", "--sort", "bytes", "-f", "json"]);
    let [target, mut other] = targets;
    wait_for_report(&file);
    fixture::work(&mut other);
    assert_eq!(other.finish().status, 0);
    let live = finish(target, agent, &file);
    let json = |options: &[&str]| Report::parse(&shown(&file, &[&["-f", "json"], options].concat()));
    let all = json(&["-T", "0"]);
    // The shortened report is of the same figures.
    let short = Report::parse(live.lines().next_back().unwrap_or_default());
    assert_eq!((short.stacks.len(), short.stacks_found), (1, all.stacks.len()));
    assert_eq!(all.called_from("keep_large").bytes, 9000, "{:?}", all.callers());
    let ordered = |report: &Report, key: fn(&memtrace_tests::Stack) -> u64| {
        report.stacks.iter().map(key).is_sorted_by(|a, b| a >= b)
    };
    assert!(
        ordered(&all, |stack| stack.bytes) && !ordered(&all, |stack| stack.blocks),
        "{:?}",
        all.callers()
    );
    let by_blocks = json(&["-T", "0", "--sort", "blocks"]);
    assert!(ordered(&by_blocks, |stack| stack.blocks), "{:?}", by_blocks.callers());
    assert_eq!(by_blocks.stacks[0].caller(), "keep_small");
    assert_eq!(json(&["--top", "2", "--sort", "blocks"]).stacks.len(), 2);
    for (pid, bytes) in [(pids[0], 6000), (pids[1], 3000), (1, 0)] {
        let of_one = json(&["-T", "0", "--pid", &pid.to_string()]);
        assert_eq!(of_one.called_from("keep_large").bytes, bytes, "{:?}", of_one.callers());
        assert_eq!(of_one.stacks_found, of_one.stacks.len());
    }
    let filtered = json(&["-T", "0", "--filter", "keep_sm"]);
    assert_eq!(filtered.stacks.len(), 2, "{:?}", filtered.callers());
    assert_eq!(filtered.called_from("keep_small").bytes, 1500);
    assert_eq!(json(&["--filter", "builds.c"]).stacks_found, all.stacks_found);
    assert_eq!(json(&["--filter", "no such function"]).stacks_found, 0);
    assert!(json(&["--at", "1"]).elapsed_s < all.elapsed_s);
}

/// A session that is saved looks like one that is not.
#[test]
fn saving_changes_nothing() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let session = |saved: bool| {
        // At the same addresses each time.
        let mut command = Command::new("setarch");
        let mut target = Running::spawn(command.arg("-R").arg(&program));
        let _: String = target.line_with("ready");
        let mut command = Command::new(memtrace_tests::agent_path());
        command.args([
            "attach",
            &target.pid().to_string(),
            "-i",
            "100ms",
            "--max-overhead",
            "off",
            "-T",
            "3",
        ]);
        if saved {
            command.arg("--save").arg(&file);
        }
        let mut agent = Running::spawn(&mut command);
        let _: String = agent.line_with("Outstanding");
        fixture::work(&mut target);
        let pid = target.pid().to_string();
        assert_eq!(target.finish().status, 0);
        let finished = agent.finish();
        assert_eq!(finished.status, 0, "{}", finished.stderr);
        steady(last_text(&finished.stdout), &pid)
    };
    let unsaved = session(false);
    assert!(unsaved.contains("keep_large") && unsaved.contains("builds.c:"), "{unsaved}");
    assert_eq!(session(true), unsaved);
}

/// A text without times and what tracing took, which no two sessions have in common.
fn steady(text: &str, pid: &str) -> String {
    let is_steady = |piece: &&str| {
        !piece.contains("traced for") && !piece.contains("B/s") && !piece.starts_with("oldest")
    };
    let steady = |line: &str| line.split(", ").filter(is_steady).collect::<Vec<_>>().join(", ");
    let (_, text) = text.split_once(']').expect("the time of day");
    let lines = text.lines().filter(|line| !line.starts_with("Tracing took"));
    lines.map(|line| steady(&line.replace(pid, "PID")) + "\n").collect()
}

/// A killed agent leaves every report that it has shown, and each is whole.
#[test]
fn killed_agent() {
    if !can_trace() {
        return;
    }
    let (_directory, program, file) = place();
    let mut target = fixture::start_path(&program, &[]);
    let mut agent = attach(&[target.pid()], &file, &["-f", "json", "-T", "0"]);
    let mut seen = vec![agent.line().unwrap_or_default()];
    for _ in 0..2 {
        fixture::work(&mut target);
        // A report may be being written.
        seen.extend((0..2).filter_map(|_| agent.line()));
    }
    agent.signal(Signal::SIGKILL);
    assert_eq!(agent.finish().status, 128 + 9);
    assert_eq!(target.finish().status, 0);
    for (at, live) in (1..).zip(&seen) {
        let found = report(&file, &["-f", "json", "-T", "0", "--at", &at.to_string()]);
        assert_eq!((found.status, found.stdout.trim_end()), (0, live.as_str()), "{}", found.stderr);
    }
    let last = report(&file, &["-f", "json", "-T", "0"]);
    assert_eq!(last.status, 0, "{}", last.stderr);
    assert!(lines(&last).is_empty() || last.stderr.contains("ends within a report"), "{}", last.stderr);
    let last = Report::parse(&last.stdout);
    assert!(!last.last, "nobody told it to end");
    assert_kept(&last);
}
