//! The agent of a round.

use std::ffi::OsString;
use std::io::PipeReader;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::kinds::Kind;
use super::plan::Mode;
use super::system::TAG;
use super::target::{Ended, Target, last_of};

/// A started agent: a group of processes of its own.
pub(super) struct Agent {
    pub(super) process: Target,
    /// Its standard output, where that is to be closed under it.
    reader: Option<PipeReader>,
    /// Signals that it was sent.
    sent: Vec<Signal>,
}

/// Where an agent runs.
pub(super) struct Place<'a> {
    pub(super) program: &'a Path,
    pub(super) tag: &'a str,
    /// Its working directory and the one for temporary files.
    pub(super) empty: &'a Path,
    /// Where its output goes.
    pub(super) logs: &'a Path,
}

/// What it writes to standard error when its command begins.
pub(super) const STARTED: &str = "started ";
/// What it writes once everything is in place.
const IN_PLACE: [&str; 3] = ["attached to ", STARTED, "tracing the kernel"];

impl Agent {
    /// Starts it; `piped` gives it a pipe to write to.
    pub(super) fn start(place: &Place<'_>, words: &[OsString], piped: bool) -> Result<Self> {
        let mut command = Command::new(place.program);
        command.args(words).current_dir(place.empty).process_group(0);
        command.env(TAG, place.tag).env("TMPDIR", place.empty);
        let (process, reader) = if piped {
            let (read, write) = std::io::pipe().context("a pipe")?;
            let stdout = Stdio::from(write);
            (Target::start_writing(&mut command, place.logs, "agent", stdout)?, Some(read))
        } else {
            (Target::start(&mut command, place.logs, "agent")?, None)
        };
        Ok(Self { process, reader, sent: Vec::new() })
    }

    /// Whether everything is in place.
    pub(super) fn is_in_place(&self) -> bool {
        let errors = self.process.errors();
        IN_PLACE.iter().any(|words| errors.contains(words))
    }

    pub(super) fn signal(&mut self, signal: Signal) {
        if self.process.lives() {
            self.sent.push(signal);
            self.process.signal(signal);
        }
    }

    /// The same to its whole group.
    pub(super) fn signal_group(&mut self, signal: Signal) {
        if self.process.lives() {
            self.sent.push(signal);
            let _ = killpg(Pid::from_raw(self.process.pid().cast_signed()), signal);
        }
    }

    pub(super) fn close_output(&mut self) {
        self.reader = None;
    }

    /// Waits for its end: what is left, and what it was sent.
    pub(super) fn end(self) -> Result<(Ended, Vec<Signal>)> {
        Ok((self.process.end()?, self.sent))
    }
}

/// The agent's command line: what it traces are processes, or a command.
pub(super) fn words(mode: Mode, pids: &[u32], command: Option<&Kind>) -> Vec<OsString> {
    let options: &[&str] = match mode {
        Mode::Exact => &["attach", "--max-overhead", "off"],
        Mode::Sampled => &["attach", "--max-overhead", "off", "--sample", "2KiB"],
        Mode::Budget => &["attach"],
        Mode::Windows => &["attach", "--max-overhead", "1%"],
        Mode::Run => &["run"],
        Mode::Kernel => &["kernel"],
    };
    let mut words: Vec<OsString> = options.iter().map(OsString::from).collect();
    words.extend(["--interval", "100ms"].map(OsString::from));
    match (mode, command) {
        (Mode::Run, Some(kind)) => {
            words.push("--".into());
            words.extend(kind.run_words().into_iter().map(OsString::from));
        }
        (Mode::Run | Mode::Kernel, _) => {}
        _ => words.extend(pids.iter().map(|pid| pid.to_string().into())),
    }
    words
}

/// What is wrong with how an agent ended. `refuses`: it may have had to refuse; `own`: a command's exit status may have
/// become its own.
pub(super) fn judge(ended: &Ended, sent: &[Signal], refuses: bool, own: bool) -> Option<String> {
    let wrong = |what: &str| Some(format!("the agent {what}: {}", ended.describe()));
    if ended.errors.contains("panicked") {
        return wrong("panicked");
    }
    let Some(status) = ended.status else { return wrong("goes on") };
    match (ended.signal(), status.code()) {
        (Some(signal), _) if sent.contains(&signal) => None,
        (None, Some(0)) => None,
        (None, Some(_)) if own => None,
        (None, Some(1)) if refuses && last_of(&ended.errors).contains("memtrace: ") => None,
        _ => wrong("failed"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt as _;
    use std::process::ExitStatus;

    use super::*;

    fn ended(raw: i32, errors: &str) -> Ended {
        Ended { status: Some(ExitStatus::from_raw(raw)), output: String::new(), errors: errors.to_owned() }
    }

    #[test]
    fn an_agent_dies_of_what_it_was_sent_only() {
        let killed = ended(Signal::SIGKILL as i32, "");
        assert_eq!(judge(&killed, &[Signal::SIGINT, Signal::SIGKILL], false, false), None);
        assert!(judge(&killed, &[Signal::SIGINT], true, true).is_some());
        assert!(judge(&ended(101 << 8, "x panicked at y"), &[], true, true).is_some());
    }

    #[test]
    fn an_agent_fails_only_where_it_may() {
        let refused = ended(1 << 8, "memtrace: process 3 exited\n");
        assert_eq!(judge(&refused, &[], true, false), None);
        assert!(judge(&refused, &[], false, false).is_some());
        assert_eq!(judge(&ended(7 << 8, ""), &[], false, true), None);
        assert_eq!(judge(&ended(0, ""), &[], false, false), None);
    }

    #[test]
    fn processes_or_a_command_are_traced() {
        let text = |words: Vec<OsString>| words.join(std::ffi::OsStr::new(" ")).into_string().unwrap();
        assert_eq!(text(words(Mode::Budget, &[3, 4], None)), "attach --interval 100ms 3 4");
        assert_eq!(text(words(Mode::Kernel, &[3], None)), "kernel --interval 100ms");
    }
}
