//! `memtrace run`: a command traced from its first allocation, with its own streams, status and privileges.

use std::{fs, process::Command};

use memtrace_tests::{
    Finished, Report, Running, Totals, agent_path, assert_refused, can_trace, fixture_path, memtrace,
    shared_directory,
};
use nix::sys::signal::Signal;

/// Output of a command that `run` started, without the reports between its lines.
fn own_output(finished: &Finished) -> Vec<&str> {
    finished.stdout.lines().filter(|line| !line.starts_with('{')).collect()
}

fn last_report(finished: &Finished) -> Report {
    let line = finished.stdout.lines().rfind(|line| line.starts_with('{'));
    Report::parse(line.unwrap_or_else(|| panic!("no report: {}{}", finished.stdout, finished.stderr)))
}

/// Runs a line of shell under the agent.
fn run_shell(options: &[&str], script: &str) -> Finished {
    memtrace(["run", "-f", "json"].iter().chain(options).chain(&["--", "sh", "-c", script]))
}

#[test]
fn exit_status_is_the_commands() {
    if !can_trace() {
        return;
    }
    for (script, status) in
        [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15), ("kill -KILL $$", 128 + 9)]
    {
        let finished = run_shell(&[], script);
        assert_eq!(finished.status, status, "{script}: {}", finished.stderr);
        assert!(last_report(&finished).last);
    }
}

/// Who stops memtrace means the command: it ends in its own way, and is still checked at its end.
#[test]
fn sigterm_is_passed_on() {
    if !can_trace() {
        return;
    }
    for checks in ["auto", "off"] {
        let script = "trap 'echo asked; exit 5' TERM; echo ready; while :; do read -t 1 line; done";
        let mut command = Command::new(agent_path());
        command.args(["run", "-f", "json", "-i", "1h", "--leak-check", checks, "--"]);
        let mut running = Running::spawn(command.args(["bash", "-c", script]));
        running.line_with("ready");
        running.signal(Signal::SIGTERM);
        let finished = running.finish();
        assert_eq!(finished.status, 5, "{}", finished.stderr);
        assert!(finished.stdout.lines().any(|line| line == "asked"), "{}", finished.stdout);
        let report = last_report(&finished);
        assert!(report.last && report.leak_check.is_some() == (checks == "auto"), "{report:#?}");
    }
}

#[test]
fn arguments_and_streams_pass_through() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new(agent_path());
    let script = "printf '<%s>' \"$@\"; echo; cat; echo complaint >&2";
    command.args([
        "run", "-f", "json", "--", "sh", "-c", script, "sh", "a b", "", "*", "--flag", "-n", "$HOME", "ü",
    ]);
    let mut running = Running::spawn(&mut command);
    let _: String = running.line_with("<a b>");
    running.write_line("a line");
    running.write_line("another");
    let finished = running.finish();
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert_eq!(own_output(&finished), ["<a b><><*><--flag><-n><$HOME><ü>", "a line", "another"]);
    assert_eq!(finished.stderr, "complaint\n");
}

/// Probes are in place before the first allocation, which a program makes before `main`.
#[test]
fn traced_from_the_first_allocation() {
    if !can_trace() {
        return;
    }
    let program = fixture_path("lifecycle");
    let finished =
        memtrace(["run", "-f", "json", "-T", "0", "--", &program.display().to_string(), "executed"]);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    let report = last_report(&finished);
    assert_eq!(report.called_from("keep_after"), Totals::kept(200 * 80, 200), "{:?}", report.callers());
    assert!(report.losses.is_exact(), "{:?}", report.losses);
}

/// A script is its interpreter's process.
#[test]
fn script() {
    if !can_trace() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let script = directory.path().join("script");
    fs::write(&script, "#!/bin/sh\necho written by a script\nexit 3\n").expect("a script can be written");
    memtrace_tests::run_tool("chmod", &["+x".as_ref(), script.as_os_str()]);
    let finished = memtrace(["run", "-f", "json", "--", &script.display().to_string()]);
    assert_eq!(
        (finished.status, own_output(&finished)),
        (3, vec!["written by a script"]),
        "{}",
        finished.stderr
    );
}

/// The session's end is not the command's.
#[test]
fn command_outlives_the_session() {
    if !can_trace() {
        return;
    }
    let mut command = Command::new(agent_path());
    command.args([
        "run",
        "-f",
        "json",
        "-n",
        "1",
        "-i",
        "100ms",
        "--",
        "sh",
        "-c",
        "read line; echo \"$line\"; exit 5",
    ]);
    let mut running = Running::spawn(&mut command);
    let report = running.line_with("{");
    assert!(Report::parse(&report).last);
    running.write_line("still here");
    let finished = running.finish();
    assert_eq!((finished.status, own_output(&finished)), (5, vec!["still here"]), "{}", finished.stderr);
}

/// Who a command is, what it may do, and which files it has open.
const IDENTITY: &str = "id -u; id -g; id -G; grep -E '^Cap(Inh|Prm|Eff|Amb)' /proc/self/status; \
    for fd in /proc/self/fd/*; do echo \"$fd $(readlink $fd)\"; done; env";

fn assert_nobody(finished: &Finished) {
    let output = own_output(finished);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert_eq!(output[..3], ["65534", "65534", "65534"], "{output:#?}");
    let capabilities: Vec<_> = output.iter().filter_map(|line| line.strip_prefix("Cap")).collect();
    assert_eq!(capabilities.len(), 4);
    assert!(capabilities.iter().all(|line| line.ends_with("0000000000000000")), "{capabilities:?}");
    assert_no_files_of_the_agents(&output);
}

/// The descriptors are those that the same shell has without the agent: a test inherits some itself.
fn assert_no_files_of_the_agents(output: &[&str]) {
    let alone = Running::spawn(Command::new("sh").args(["-c", IDENTITY])).finish();
    let numbers = |lines: &[&str]| -> Vec<String> {
        let files = lines.iter().filter_map(|line| line.strip_prefix("/proc/self/fd/"));
        files.filter_map(|line| line.split(' ').next().map(str::to_owned)).collect()
    };
    assert!(numbers(output).len() >= 3, "{output:#?}");
    assert_eq!(numbers(output), numbers(&own_output(&alone)), "{output:#?}");
    assert!(!output.iter().any(|line| line.contains("anon_inode")), "{output:#?}");
}

/// The agent has groups of its own here, which the command is not to have.
#[test]
fn user_by_name_and_by_number() {
    if !can_trace() {
        return;
    }
    for user in ["nobody", "65534"] {
        let mut command = Command::new("setpriv");
        command.args(["--groups", "4,24", "--"]).arg(agent_path());
        command.args(["run", "-f", "json", "--user", user, "--", "sh", "-c", IDENTITY]);
        let finished = Running::spawn(&mut command).finish();
        assert_nobody(&finished);
        let output = own_output(&finished);
        assert!(output.contains(&"USER=nobody") && output.contains(&"LOGNAME=nobody"), "{output:#?}");
    }
}

/// Under sudo the command is the caller's, not root's.
#[test]
fn user_behind_sudo() {
    if !can_trace() {
        return;
    }
    let directory = shared_directory();
    let mut command = Command::new(agent_path());
    command.args(["run", "-f", "json", "--", "sh", "-c", IDENTITY]).current_dir(directory.path());
    command.env("SUDO_UID", "65534").env("SUDO_GID", "65534").env("SUDO_USER", "nobody");
    let finished = Running::spawn(&mut command).finish();
    assert_nobody(&finished);
    let output = own_output(&finished);
    assert!(!output.iter().any(|line| line.starts_with("SUDO_")), "{output:#?}");
}

/// A command under sudo, with these variables set.
fn behind(uid: &str, gid: Option<&str>) -> Finished {
    let directory = shared_directory();
    let mut command = Command::new(agent_path());
    command.args(["run", "-f", "json", "--", "sh", "-c", IDENTITY]).current_dir(directory.path());
    command.env("SUDO_UID", uid).env_remove("SUDO_GID").envs(gid.map(|gid| ("SUDO_GID", gid)));
    Running::spawn(&mut command).finish()
}

/// A number that the system has no name for is a user like any other.
#[test]
fn user_without_an_entry_behind_sudo() {
    if !can_trace() {
        return;
    }
    let finished = behind("54321", Some("54322"));
    let output = own_output(&finished);
    assert_eq!(output.get(..3), Some(["54321", "54322", "54322"].as_slice()), "{}", finished.stderr);
    assert_no_files_of_the_agents(&output);
}

/// If the caller of sudo cannot be determined, the command is not run as root instead.
#[test]
fn unclear_user_behind_sudo() {
    if !can_trace() {
        return;
    }
    for (uid, gid, word) in [
        ("nobody", Some("65534"), "SUDO_UID"),
        ("", None, "SUDO_UID"),
        ("4294967295", Some("1"), "SUDO_UID"),
        ("54321", Some("-1"), "SUDO_GID"),
        ("54321", None, "SUDO_GID"),
    ] {
        let finished = behind(uid, gid);
        assert_refused(&finished, 1, word);
        assert_eq!(finished.stdout, "");
    }
}

/// To the kernel the largest number means that nothing is to change.
#[test]
fn no_user_at_all() {
    let finished = memtrace(["run", "--user", "4294967295", "--", "id"]);
    assert_refused(&finished, 1, "no user");
}

/// Without another user the command still has none of the agent's files.
#[test]
fn no_file_of_the_agents_leaks() {
    if !can_trace() {
        return;
    }
    let finished = run_shell(&[], IDENTITY);
    assert_eq!(finished.status, 0, "{}", finished.stderr);
    assert_no_files_of_the_agents(&own_output(&finished));
}
