//! Reports in a file: `--output`.

use std::{
    collections::HashSet,
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use memtrace_tests::{
    Finished, Report, Running, agent_path, assert_refused, assert_usage, can_trace, fixture, limit, memtrace,
    run_tool,
};
use nix::sys::signal::Signal;

/// Exit status where something cannot be done.
const FAILED: i32 = 1;

/// A directory, and the path of a file in it that does not exist.
fn place() -> (tempfile::TempDir, PathBuf, String) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("report");
    let text = path.display().to_string();
    (directory, path, text)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(directory: &tempfile::TempDir) -> Vec<String> {
    fs::read_dir(directory.path())
        .expect("the directory")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect()
}

/// Waits until a file is there and fits; returns what it holds.
fn wait_for(path: &Path, fits: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + limit();
    loop {
        if let Some(text) = fs::read_to_string(path).ok().filter(|text| fits(text)) {
            return text;
        }
        assert!(Instant::now() < end, "{}: {:?}", path.display(), fs::read_to_string(path));
        std::thread::yield_now();
    }
}

/// Attaches to a process with reports every 50 ms.
fn attach(target: &Running, options: &[&str]) -> Running {
    let mut command = Command::new(agent_path());
    command.args(["attach", &target.pid().to_string(), "-i", "50ms", "--max-overhead", "off"]).args(options);
    Running::spawn(&mut command)
}

/// The file has what the agent would have printed; other users cannot read it, and standard output is empty.
#[test]
fn check_to_a_file() {
    let (directory, path, text) = place();
    fs::write(&path, "an earlier one").expect("a file");
    let plain = memtrace(["check", "-O", "-"]);
    assert_eq!(read(&path), "an earlier one");
    let finished = memtrace(["check", "--pid", &std::process::id().to_string(), "-O", &text]);
    assert_eq!(finished.stdout, "", "{}", finished.stderr);
    let written = read(&path);
    assert!(written.starts_with(&plain.stdout) && written.contains("\nProcess "), "{written}");
    assert_eq!(fs::metadata(&path).expect("its attributes").permissions().mode() & 0o7777, 0o600);
    assert_eq!(names(&directory), ["report"]);
}

/// Every command refuses before it does anything else, and touches nothing.
#[test]
fn what_is_not_replaced() {
    let (directory, path, text) = place();
    let own = std::process::id().to_string();
    let commands: [&[&str]; 7] = [
        &["check", "-O", &text],
        &["attach", &own, "-O", &text],
        &["run", "-O", &text, "--", "touch", &format!("{text}.started")],
        &["kernel", "--output", &text],
        &["demo", "--output", &text],
        &["memleak", "-p", &own, "--output", &text],
        &["memleak", "-c", &format!("touch {text}.started"), "--output", &text],
    ];
    let refuses = |words: [&str; 2]| {
        for command in commands {
            let finished = memtrace(command);
            assert_refused(&finished, FAILED, words[0]);
            assert!(finished.stderr.contains(words[1]), "{}", finished.stderr);
            assert_eq!((finished.stdout.as_str(), names(&directory).len()), ("", 2), "{command:?}");
        }
    };
    let other = directory.path().join("other");
    fs::write(&other, "old").expect("a file");
    symlink(&other, &path).expect("a link");
    refuses(["symbolic link", "name another file"]);
    assert_eq!(read(&other), "old");
    fs::remove_file(&path).expect("the link is there");
    run_tool("mkfifo", &[&path]);
    refuses(["pipe", "name another file"]);
    fs::remove_file(&path).expect("the pipe is there");
    fs::create_dir(&path).expect("a directory");
    refuses(["directory", "name a file in it"]);
}

/// As everywhere.
#[test]
fn the_null_device_takes_everything() {
    let finished = memtrace(["check", "-O", "/dev/null"]);
    assert!(finished.stdout.is_empty() && !finished.stderr.contains("device"), "{}", finished.stderr);
}

#[test]
fn what_cannot_be_created() {
    let (_directory, _, text) = place();
    for (output, word) in [
        (format!("{text}/file"), "existing"),
        ("/proc/self/report".to_owned(), "may write to"),
        ("/dev/zero".to_owned(), "device"),
        (String::new(), "directory"),
    ] {
        let finished = memtrace(["check", "-O", &output]);
        if output.is_empty() {
            assert_usage(&finished);
        } else {
            assert_refused(&finished, FAILED, word);
        }
    }
}

fn run_shell(options: &[&str], script: &str) -> Finished {
    memtrace(["run"].iter().chain(options).chain(&["--", "sh", "-c", script]))
}

/// The command has standard output to itself.
#[test]
fn run_with_json_in_a_file() {
    if !can_trace() {
        return;
    }
    let (directory, path, text) = place();
    fs::write(&path, "an earlier report, and much longer than those that follow are".repeat(1000))
        .expect("a file");
    let finished = run_shell(&["-f", "json", "-O", &text], "echo mine; exit 3");
    assert_eq!((finished.status, finished.stdout.as_str()), (3, "mine\n"), "{}", finished.stderr);
    assert_eq!(finished.stderr, "");
    let written = read(&path);
    assert!(written.ends_with('\n') && Report::parse(written.trim_end()).last, "{written}");
    assert_eq!(names(&directory), ["report"]);
}

/// Whoever opens the file sees one whole report, each time.
#[test]
fn json_is_replaced_by_each_report() {
    if !can_trace() {
        return;
    }
    let (directory, path, text) = place();
    let mut target = fixture::start("lifecycle", &["many"]);
    let agent = attach(&target, &["-f", "json", "-O", &text]);
    let mut seen = HashSet::new();
    let mut before: Option<File> = None;
    let end = Instant::now() + limit();
    while seen.len() < 4 {
        assert!(Instant::now() < end, "{} reports", seen.len());
        let Ok(mut file) = File::open(&path) else {
            assert!(seen.is_empty(), "the file went");
            continue;
        };
        let mut report = String::new();
        file.read_to_string(&mut report).expect("the file can be read");
        assert!(report.lines().count() == 1 && !Report::parse(report.trim_end()).last, "{report}");
        if seen.insert(report)
            && let Some(before) = before.replace(file)
        {
            // Not written over: who had it open reads on.
            assert_eq!(before.metadata().expect("its attributes").nlink(), 0);
        }
    }
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    let finished = agent.finish();
    assert_eq!((finished.status, finished.stdout.as_str()), (0, ""), "{}", finished.stderr);
    let report = Report::parse(read(&path).trim_end());
    assert!(report.last && report.called_from("keep_before").blocks == 5000, "{:?}", report.callers());
    assert_eq!(names(&directory), ["report"]);
}

/// Text is added to the file, in which nothing is painted.
#[test]
fn text_is_appended() {
    if !can_trace() {
        return;
    }
    let (directory, path, text) = place();
    fs::write(&path, "an earlier report").expect("a file");
    let target = fixture::start("lifecycle", &["many"]);
    let agent = attach(&target, &["-n", "3", "-O", &text]);
    let finished = agent.finish();
    assert_eq!((finished.status, finished.stdout.as_str()), (0, ""), "{}", finished.stderr);
    let written = read(&path);
    assert_eq!(written.matches("Outstanding").count(), 3, "{written}");
    assert!(
        written.starts_with('[') && written.contains("last report") && !written.contains('\u{1b}'),
        "{written}"
    );
    assert_eq!(names(&directory), ["report"]);
}

/// Of a trace every line counts, in JSON as well.
#[test]
fn trace_is_appended() {
    if !can_trace() {
        return;
    }
    let (_directory, path, text) = place();
    let mut target = fixture::start("family", &[]);
    let agent = attach(&target, &["-f", "json", "--trace", "--output", &text]);
    wait_for(&path, |text| !text.is_empty());
    fixture::work(&mut target);
    assert_eq!(target.finish().status, 0);
    assert_eq!(agent.finish().status, 0);
    let written = read(&path);
    assert!(written.lines().filter(|line| line.contains(r#""event":"alloc""#)).count() > 20, "{written}");
    assert!(Report::parse(written.lines().next_back().unwrap_or_default()).last);
}

/// What scripts wait for goes where the reports go.
#[test]
fn memleak_to_a_file() {
    if !can_trace() {
        return;
    }
    let (_directory, path, text) = place();
    let target = fixture::start("lifecycle", &["many"]);
    let finished = memtrace(["memleak", "-p", &target.pid().to_string(), "--output", &text, "1", "1"]);
    assert_eq!((finished.status, finished.stdout.as_str()), (0, ""), "{}", finished.stderr);
    let written = read(&path);
    assert!(written.starts_with("Attaching to pid") && written.contains("Top 10 stacks"), "{written}");
}

/// A killed agent leaves its last reports, whole, and nothing else.
#[test]
fn killed_agent() {
    if !can_trace() {
        return;
    }
    for format in ["json", "text"] {
        let (directory, path, text) = place();
        let target = fixture::start("lifecycle", &["many"]);
        let agent = attach(&target, &["-f", format, "-O", &text]);
        wait_for(&path, |text| !text.is_empty());
        agent.signal(Signal::SIGKILL);
        assert_eq!(agent.finish().status, 128 + 9);
        let written = read(&path);
        if format == "json" {
            assert!(written.ends_with("}\n") && !Report::parse(written.trim_end()).last, "{written}");
        } else {
            assert!(written.starts_with('[') && written.ends_with("\n\n"), "{written}");
        }
        assert!(names(&directory).iter().any(|name| name == "report"), "{:?}", names(&directory));
    }
}

/// One would replace the other.
#[test]
fn reports_and_the_saved_session_in_one_file() {
    if !can_trace() {
        return;
    }
    let (directory, _, text) = place();
    let target = fixture::start("lifecycle", &["many"]);
    let same = directory.path().join(".").join("report");
    for command in ["attach", "scan"] {
        let pid = target.pid().to_string();
        let finished =
            memtrace([command, &pid, "-n", "1", "-O", &text, "--save", same.to_str().expect("UTF-8")]);
        assert_eq!((finished.status, finished.stdout.as_str()), (FAILED, ""), "{}", finished.stderr);
        assert!(finished.stderr.contains("name the same file"), "{}", finished.stderr);
    }
    assert!(names(&directory).is_empty(), "{:?}", names(&directory));
}

/// Where there is no room for another report the session ends, and those that fitted are whole.
#[test]
fn full() {
    if !can_trace() {
        return;
    }
    for format in ["json", "text"] {
        let (directory, path, text) = place();
        let target = fixture::start("lifecycle", &["many"]);
        let mut command = Command::new("sh");
        // In blocks of 512 bytes. The signal that comes with the limit is ignored, so that writing fails.
        let script = format!("trap '' XFSZ; ulimit -f {}; exec \"$@\"", if format == "json" { 1 } else { 8 });
        command.args(["-c", &script, "sh"]).arg(agent_path());
        command.args(["attach", &target.pid().to_string(), "-i", "50ms", "--color", "never"]);
        command.args(["-f", format, "-O", &text]);
        let finished = Running::spawn(&mut command).finish();
        assert_eq!((finished.status, finished.stdout.as_str()), (FAILED, ""), "{}", finished.stderr);
        let complaint = finished.stderr.lines().next_back().unwrap_or_default();
        for part in ["cannot write the report", &text, "File too large"] {
            assert!(complaint.contains(part), "no {part:?} in {complaint}");
        }
        if format == "json" {
            assert!(names(&directory).is_empty(), "{:?}", names(&directory));
        } else {
            let written = read(&path);
            assert!(written.contains("Outstanding") && written.ends_with("\n\n"), "{written}");
            assert!(written.len() <= 8 * 1024);
        }
    }
}
