//! A target: started, signalled, and ended by the end of its standard input.

use std::fs::{self, File};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far longer than anything takes.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at something that is waited for.
pub(super) const STEP: Duration = Duration::from_millis(3);

/// A running child whose output goes to files.
pub(super) struct Target {
    child: Child,
    input: Option<ChildStdin>,
    output: PathBuf,
    errors: PathBuf,
}

/// What is left of it.
pub(super) struct Ended {
    /// None if it did not end in time.
    pub(super) status: Option<ExitStatus>,
    pub(super) output: String,
    pub(super) errors: String,
}

impl Ended {
    /// The signal it died of.
    pub(super) fn signal(&self) -> Option<Signal> {
        Signal::try_from(self.status?.signal()?).ok()
    }

    /// How it ended, in words.
    pub(super) fn describe(&self) -> String {
        let how = self.status.map_or_else(|| "did not end".to_owned(), |status| status.to_string());
        format!("{how}, printed {:?}, {:?}", last_of(&self.output), last_of(&self.errors))
    }
}

/// The end of a text: what a failure shows of it.
pub(super) fn last_of(text: &str) -> &str {
    let text = text.trim();
    let from = text.len().saturating_sub(300);
    text.get(from..).unwrap_or(text)
}

impl Target {
    /// Starts it with its output in files of `directory`.
    pub(super) fn start(command: &mut Command, directory: &Path, name: &str) -> Result<Self> {
        let output = create(&output_path(directory, name))?;
        Self::start_writing(command, directory, name, output.into())
    }

    /// The same with another standard output.
    pub(super) fn start_writing(
        command: &mut Command,
        directory: &Path,
        name: &str,
        stdout: Stdio,
    ) -> Result<Self> {
        let output = output_path(directory, name);
        let errors = directory.join(format!("{name}.err"));
        command.stdin(Stdio::piped()).stdout(stdout).stderr(create(&errors)?);
        let mut child =
            command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
        let input = child.stdin.take();
        Ok(Self { child, input, output, errors })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it runs still.
    pub(super) fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// What it has written so far.
    pub(super) fn errors(&self) -> String {
        read(&self.errors)
    }

    /// Sends it a signal, unless it has ended.
    pub(super) fn signal(&mut self, signal: Signal) {
        if self.lives() {
            let _ = kill(Pid::from_raw(self.pid().cast_signed()), signal);
        }
    }

    /// Closes its standard input, which ends it.
    pub(super) fn close(&mut self) {
        self.input = None;
    }

    /// Waits for its end, a limited time.
    pub(super) fn end_within(&mut self, limit: Duration) -> Result<Option<ExitStatus>> {
        let end = Instant::now() + limit;
        loop {
            match self.child.try_wait().context("waiting for a child")? {
                None if Instant::now() < end => thread::sleep(STEP),
                status => return Ok(status),
            }
        }
    }

    /// Closes its input and waits for its end.
    pub(super) fn end(mut self) -> Result<Ended> {
        self.close();
        let status = self.end_within(LIMIT)?;
        Ok(Ended { status, output: read(&self.output), errors: read(&self.errors) })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.lives() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn output_path(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.out"))
}

fn create(path: &Path) -> Result<File> {
    File::create(path).with_context(|| path.display().to_string())
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_its_input_ends_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; read line; exit 7"]);
        let ended = Target::start(&mut command, directory.path(), "t").unwrap().end().unwrap();
        assert_eq!(ended.status.unwrap().code(), Some(7));
        assert_eq!((ended.output.as_str(), ended.errors.as_str()), ("out\n", "err\n"));
    }

    #[test]
    fn a_signal_is_told_from_an_exit() {
        let directory = tempfile::tempdir().unwrap();
        let mut target = Target::start(&mut Command::new("cat"), directory.path(), "t").unwrap();
        target.signal(Signal::SIGKILL);
        assert_eq!(target.end().unwrap().signal(), Some(Signal::SIGKILL));
    }
}
