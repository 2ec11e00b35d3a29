//! The agent is another process here, which is killed or stopped.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use memtrace_tests::{
    limit,
    proc::{state, status},
};
use nix::sys::signal::{Signal, killpg};

use super::{Program, held, launch, signal, until};

/// In a process of its own: holds the program of the environment's arguments, until it is killed.
#[test]
fn agent() {
    let Ok(arguments) = std::env::var("HOLD_ARGUMENTS") else { return };
    let arguments: Vec<_> = arguments.split('\n').map(Into::into).collect();
    let (launched, hold) = launch(&arguments);
    let report = std::env::var("HOLD_REPORT").unwrap();
    fs::write(&report, format!("running {}\n", launched.id())).unwrap();
    let threads = held(&hold);
    fs::write(&report, format!("held {} {}\n", launched.id(), threads.len())).unwrap();
    std::thread::sleep(limit());
}

struct Agent {
    child: std::process::Child,
    report: PathBuf,
}

impl Agent {
    fn start(program: &Program) -> Self {
        let report = program.directory.path().join("report");
        let arguments = program.arguments().map(|argument| argument.into_string().unwrap()).join("\n");
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "target::hold::tests::agent::agent"])
            .env("HOLD_ARGUMENTS", arguments)
            .env("HOLD_REPORT", &report)
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        Self { child, report }
    }

    /// Waits for its report, and returns the program's pid.
    fn when(&self, word: &str) -> u32 {
        until(|| {
            let report = fs::read_to_string(&self.report).unwrap_or_default();
            report.strip_prefix(word)?.split_whitespace().next()?.parse().ok()
        })
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn is_gone(pid: u32) -> bool {
    !Path::new(&format!("/proc/{pid}")).exists() || state(pid) == Some('Z')
}

/// The command goes on as if it had never been traced, or ends.
#[test]
fn the_agent_is_killed() {
    let program = Program::new("signals");
    let agent = Agent::start(&program);
    let pid = agent.when("running");
    program.when_said("waiting");
    assert!(status(pid, "TracerPid").is_some_and(|tracer| tracer != "0"));
    agent.kill();
    until(|| (status(pid, "TracerPid")? == "0").then_some(()));
    signal(pid, Signal::SIGUSR1);
    assert_eq!(program.when_said("signal"), 10_000);
    signal(pid, Signal::SIGSTOP);
    until(|| (state(pid) == Some('T')).then_some(()));
    signal(pid, Signal::SIGCONT);
    until(|| (state(pid) == Some('S')).then_some(()));
    signal(pid, Signal::SIGKILL);
    until(|| is_gone(pid).then_some(()));

    let program = Program::new("many");
    let agent = Agent::start(&program);
    let pid = agent.when("held");
    assert!(!is_gone(pid));
    agent.kill();
    until(|| is_gone(pid).then_some(()));
}

/// As Ctrl-Z and `fg` do it: agent and command are in one process group, and a stopped agent lets no signal through.
#[test]
fn stopped_and_continued_with_the_agent() {
    let program = Program::new("signals");
    let agent = Agent::start(&program);
    let pid = agent.when("running");
    program.when_said("waiting");
    let (keeper, group) = (agent.child.id(), nix::unistd::Pid::from_raw(agent.child.id() as i32));
    for _ in 0..3 {
        killpg(group, Signal::SIGTSTP).unwrap();
        until(|| (state(keeper) == Some('T') && matches!(state(pid), Some('T' | 't'))).then_some(()));
        killpg(group, Signal::SIGCONT).unwrap();
        until(|| (state(pid) == Some('S')).then_some(()));
    }
    signal(pid, Signal::SIGUSR1);
    // The program handles SIGCONT too.
    until(|| program.words().contains(&"signal 10000".to_owned()).then_some(()));
    assert!(program.words().contains(&"signal 18000".to_owned()), "{:?}", program.words());
    agent.kill();
    signal(pid, Signal::SIGKILL);
}
