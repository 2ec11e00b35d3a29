//! bcc's own test of memleak, with memtrace in its place.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use memtrace_tests::{Running, agent_path, can_trace, fixture_path};

/// Large enough to be the largest stack: the program allocates for itself too.
const AMOUNT: &str = "30000";

/// Runs memleak as bcc's test does and returns the first word of the last line with "byte" in it.
fn last_amount(tool: &str, kind: &str) -> String {
    let leaker = fixture_path("leaker");
    let command = format!(
        "stdbuf -o 0 -i 0 timeout -s KILL 10s {tool} -c \"{} {kind} {AMOUNT}\" -T 1 1 2",
        leaker.display()
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &command]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::spawn(&mut shell);
    let _: String = running.line_with("with outstanding allocations");
    running.write_line("");
    let finished = running.finish();
    assert_eq!(finished.status, 0, "{command}\n{}\n{}", finished.stdout, finished.stderr);
    let line = finished.stdout.lines().rfind(|line| line.contains("byte"));
    line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned()
}

fn memleak() -> String {
    format!("{} memleak", agent_path().display())
}

macro_rules! kinds {
    ($($kind:ident)*) => {$(
        #[test]
        fn $kind() {
            if can_trace() {
                assert_eq!(last_amount(&memleak(), stringify!($kind)), AMOUNT);
            }
        }
    )*};
}

kinds! { malloc calloc realloc posix_memalign valloc memalign pvalloc aligned_alloc }

#[test]
fn no_leak() {
    if can_trace() {
        assert_ne!(last_amount(&memleak(), "no_leak"), AMOUNT);
    }
}

/// The program is memleak when it is called so.
#[test]
fn called_memleak() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let link: &Path = &directory.path().join("memleak");
    std::os::unix::fs::symlink(agent_path(), link).expect("a symbolic link");
    assert_eq!(last_amount(&link.display().to_string(), "malloc"), AMOUNT);
}

/// A link with memleak's name, as packages install it.
#[test]
fn help_of_a_link() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let link = directory.path().join("memleak");
    std::os::unix::fs::symlink(agent_path(), &link).expect("a link");
    let finished = Running::spawn(Command::new(link).arg("--help").stdout(Stdio::piped())).finish();
    assert!(finished.stdout.contains("Usage: memtrace memleak ["), "{}", finished.stdout);
}
