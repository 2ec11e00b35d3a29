//! Tools of others that are compared with.

use std::fs;
use std::io::Read as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::process;

use super::child::Running;
use super::load::Load;

/// How long bpftrace may take to place its probes.
const READY: Duration = Duration::from_secs(20);
/// The first of its probes slows an operation down by more than this; the others take a moment more.
const SLOWED: f64 = 8.0;
const MOMENT: Duration = Duration::from_millis(700);

/// bpftrace counting the same three probes, as its users write it.
pub(super) struct Bpftrace {
    running: Running,
}

impl Bpftrace {
    /// Starts it, and keeps the process busy until its probes are there, which it does not tell: by what an
    /// operation costs.
    pub(super) fn start(load: &mut dyn Load) -> Result<Self> {
        let operations = load.least().max(10);
        let untraced = load.cost(operations)?;
        let mut bpftrace = Self::spawn(load.pid())?;
        let deadline = Instant::now() + READY;
        while load.cost(operations)? < SLOWED * untraced {
            if let Some(complaint) = bpftrace.complaint() {
                bail!("bpftrace: {complaint}");
            }
            if Instant::now() > deadline {
                bail!("bpftrace placed no probe in {} s", READY.as_secs());
            }
            sleep(Duration::from_millis(20));
        }
        sleep(MOMENT);
        Ok(bpftrace)
    }

    fn spawn(pid: u32) -> Result<Self> {
        let libc = libc_of(pid)?;
        let script = format!(
            "uprobe:{libc}:malloc {{ @size[tid] = arg0; }}
             uretprobe:{libc}:malloc /@size[tid]/ {{
                 @live[retval] = @size[tid]; @stack[retval] = ustack; delete(@size[tid]); }}
             uprobe:{libc}:free {{ delete(@live[arg0]); delete(@stack[arg0]); }}"
        );
        let mut command = process::command("bpftrace");
        command.args(["-p", &pid.to_string(), "-e", &script]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Ok(Self { running: Running::spawn(&mut command)? })
    }

    /// What it complained about, when it has ended.
    fn complaint(&mut self) -> Option<String> {
        self.running.0.try_wait().ok()??;
        let mut text = String::new();
        self.running.0.stderr.take()?.read_to_string(&mut text).ok()?;
        Some(text.trim_end().to_owned())
    }
}

fn libc_of(pid: u32) -> Result<String> {
    let path = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&path).context(path)?;
    let file = maps.lines().filter_map(|line| line.split_whitespace().last());
    let libc = file.into_iter().find(|file| file.contains("/libc.so"));
    libc.map(str::to_owned).with_context(|| format!("process {pid} maps no libc"))
}

/// A tool that starts the program itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrapper {
    Heaptrack,
    Valgrind,
}

impl Wrapper {
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Heaptrack => "heaptrack",
            Self::Valgrind => "valgrind",
        }
    }

    /// The command that runs `command` under it. What it writes goes to `directory`.
    pub(super) fn around(self, command: &Command, directory: &TempDir) -> Command {
        let mut wrapped = Command::new(self.program());
        match self {
            Self::Heaptrack => wrapped.arg("-o").arg(directory.path().join("heaptrack")),
            Self::Valgrind => wrapped.args(["--quiet", "--leak-check=no"]),
        };
        wrapped.arg(command.get_program()).args(command.get_args()).stderr(Stdio::null());
        wrapped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrapper_starts_the_program_with_its_arguments() {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new("pair");
        command.args(["4", "1"]);
        let wrapped = Wrapper::Valgrind.around(&command, &directory);
        assert_eq!(wrapped.get_program(), "valgrind");
        assert_eq!(wrapped.get_args().collect::<Vec<_>>(), ["--quiet", "--leak-check=no", "pair", "4", "1"]);
    }
}
