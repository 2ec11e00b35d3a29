//! A machine at work: its console followed, its suites given up where they take too long.

use std::fs::File;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process;

/// What the machine writes before a suite, followed by its name.
pub(super) const BEGIN: &str = "memtrace-vm: begin ";
/// What it writes after it, followed by its name and exit status.
pub(super) const END: &str = "memtrace-vm: end ";

/// What qemu is to run.
pub(super) struct Machine<'a> {
    pub(super) kernel: &'a Path,
    pub(super) initrd: &'a Path,
    pub(super) accel: &'a str,
    pub(super) memory: &'a str,
    /// For each suite, and for getting to the first.
    pub(super) limit: Duration,
}

/// How a suite ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Passed,
    Failed,
    /// Why not.
    NotFinished(String),
}

/// A suite that ran, or was to.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) suite: String,
    pub(super) outcome: Outcome,
    /// What the suite says of its tests.
    pub(super) counts: String,
    pub(super) took: Duration,
}

impl Machine<'_> {
    /// Runs the suites. Where one does not finish the rest runs on a machine of its own.
    pub(super) fn run(&self, suites: &[String], log: &Path) -> Result<Vec<Ended>> {
        let mut log = File::create(log).with_context(|| log.display().to_string())?;
        let mut ended: Vec<Ended> = Vec::new();
        while let Some(rest) = suites.get(ended.len()..).filter(|rest| !rest.is_empty()) {
            let console = self.follow(rest, &mut log)?;
            let got_there = console.begun;
            ended.extend(console.ended);
            if !got_there {
                let never = |suite: &String| Ended {
                    suite: suite.clone(),
                    outcome: Outcome::NotFinished("the machine did not get to it".to_owned()),
                    counts: String::new(),
                    took: Duration::ZERO,
                };
                ended.extend(suites.iter().skip(ended.len()).map(never).collect::<Vec<_>>());
            }
        }
        Ok(ended)
    }

    /// One machine, until it has switched itself off or is switched off.
    fn follow(&self, suites: &[String], log: &mut File) -> Result<Console> {
        let mut machine = self.start(suites)?;
        let output = read(&mut machine)?;
        let mut console = Console::new();
        let why = loop {
            match output.recv_timeout(self.limit.saturating_sub(console.since.elapsed())) {
                Ok(bytes) => {
                    log.write_all(&bytes).context("writing the log")?;
                    console.take(&bytes);
                }
                Err(RecvTimeoutError::Disconnected) => break "the machine ended".to_owned(),
                Err(RecvTimeoutError::Timeout) => {
                    let pid = i32::try_from(machine.id()).context("qemu's pid")?;
                    kill(Pid::from_raw(pid), Signal::SIGTERM).context("ending qemu")?;
                    break format!("did not finish in {} s", self.limit.as_secs());
                }
            }
        };
        machine.wait().context("waiting for qemu")?;
        console.give_up(&why);
        Ok(console)
    }

    fn start(&self, suites: &[String]) -> Result<Child> {
        // A machine whose output is no longer read ends by itself.
        let all = self.limit.as_secs() * (suites.len() as u64 + 1) + 60;
        let mut command = process::command("timeout");
        command.arg("--foreground").arg(all.to_string()).arg("qemu-system-x86_64");
        command.args(["-accel", self.accel, "-cpu", "max", "-smp", "2", "-m", self.memory]);
        command.args(["-nographic", "-no-reboot", "-net", "none", "-append"]);
        command.arg(format!("console=ttyS0 panic=-1 quiet rdinit=/init -- {}", suites.join(" ")));
        command.arg("-kernel").arg(self.kernel).arg("-initrd").arg(self.initrd);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        command.spawn().context("cannot start qemu-system-x86_64 (package qemu-system-x86)")
    }
}

/// What the machine writes, piece by piece.
fn read(machine: &mut Child) -> Result<Receiver<Vec<u8>>> {
    let mut stdout = machine.stdout.take().context("a machine without a console")?;
    let (sender, output) = channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = stdout.read(&mut buffer) {
            let Some(bytes) = buffer.get(..length) else { break };
            if sender.send(bytes.to_vec()).is_err() {
                break;
            }
        }
    });
    Ok(output)
}

/// What has been seen on a console.
struct Console {
    /// The line that is not complete.
    line: Vec<u8>,
    /// When the machine was started, or the last suite began or ended.
    since: Instant,
    begun: bool,
    running: Option<String>,
    counts: String,
    ended: Vec<Ended>,
}

impl Console {
    fn new() -> Self {
        Self {
            line: Vec::new(),
            since: Instant::now(),
            begun: false,
            running: None,
            counts: String::new(),
            ended: Vec::new(),
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).trim_end().to_owned();
                self.take_line(&line);
            } else {
                self.line.push(byte);
            }
        }
    }

    fn take_line(&mut self, line: &str) {
        if let Some(suite) = line.strip_prefix(BEGIN) {
            println!("{suite}:");
            (self.begun, self.running, self.since) = (true, Some(suite.to_owned()), Instant::now());
        } else if let Some((suite, status)) = line.strip_prefix(END).and_then(|rest| rest.split_once(' ')) {
            let outcome = if status == "0" { Outcome::Passed } else { Outcome::Failed };
            self.end(suite.to_owned(), outcome);
        } else if let Some(result) = line.strip_prefix("test result: ") {
            self.counts = counts(result);
        } else if line.starts_with("test ") || is_complaint(line) {
            println!("{:6.1} s  {line}", self.since.elapsed().as_secs_f64());
        }
    }

    fn end(&mut self, suite: String, outcome: Outcome) {
        let (counts, took) = (std::mem::take(&mut self.counts), self.since.elapsed());
        self.ended.push(Ended { suite, outcome, counts, took });
        (self.running, self.since) = (None, Instant::now());
    }

    /// The suite that was running has not finished.
    fn give_up(&mut self, why: &str) {
        if let Some(suite) = self.running.take() {
            let last = String::from_utf8_lossy(&self.line).into_owned();
            let test = last.strip_prefix("test ").and_then(|rest| rest.split_whitespace().next());
            let at = test.map(|test| format!(", at {test}")).unwrap_or_default();
            self.end(suite, Outcome::NotFinished(format!("{why}{at}")));
        }
    }
}

/// Whether a line is the kernel's, of something that must not happen.
fn is_complaint(line: &str) -> bool {
    ["BUG: ", "WARNING: ", "Oops", "Kernel panic", "rcu: INFO", "Out of memory"]
        .iter()
        .any(|one| line.contains(one))
}

/// `ok. 5 passed; 0 failed; 0 ignored; …` in short.
fn counts(result: &str) -> String {
    let of = |word: &str| {
        let part = result.split([';', '.']).find_map(|part| part.trim().strip_suffix(word));
        part.map_or_else(String::new, |number| number.trim().to_owned())
    };
    format!("{} passed, {} failed", of(" passed"), of(" failed"))
}

#[cfg(test)]
mod tests {
    use super::{Console, Outcome, counts, is_complaint};

    #[test]
    fn a_console_tells_how_suites_ended() {
        let mut console = Console::new();
        console.take(b"6.1.0\r\nmemtrace-vm: begin one\r\ntest a ... ok\r\ntest result: ok. 1 passed; 0 failed; 0 ignored\r\n");
        console.take(b"memtrace-vm: end one 0\r\nmemtrace-vm: begin two\nmemtrace-vm: end two 101\n");
        console.take(b"memtrace-vm: begin three\ntest slow ... ");
        console.give_up("did not finish in 5 s");
        let ended: Vec<_> =
            console.ended.iter().map(|one| (one.suite.as_str(), &one.outcome, one.counts.as_str())).collect();
        let why = Outcome::NotFinished("did not finish in 5 s, at slow".to_owned());
        assert_eq!(
            ended,
            [
                ("one", &Outcome::Passed, "1 passed, 0 failed"),
                ("two", &Outcome::Failed, ""),
                ("three", &why, "")
            ]
        );
    }

    #[test]
    fn a_machine_that_ended_before_its_suites_is_told() {
        let mut console = Console::new();
        console.take(b"Kernel panic - not syncing\n");
        console.give_up("the machine ended");
        assert!(!console.begun && console.ended.is_empty());
    }

    #[test]
    fn counts_and_complaints_are_recognised() {
        assert_eq!(
            counts("FAILED. 18 passed; 1 failed; 0 ignored; finished in 3.00s"),
            "18 passed, 1 failed"
        );
        assert!(is_complaint("[  1.0] BUG: unable to handle page fault"));
        assert!(!is_complaint("test debug ... ok"));
    }
}
