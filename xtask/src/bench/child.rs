//! Processes of a measurement: started, spoken to, and gone when dropped.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::load::Load;

/// How long a fixture may take to end by itself once its input has ended.
const FAREWELL: Duration = Duration::from_secs(3);

/// A running child, killed when dropped: for the agent that is the unfriendly end, after which no probe is
/// left either.
pub(super) struct Running(pub(super) Child);

impl Running {
    pub(super) fn spawn(command: &mut Command) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        Ok(Self(command.spawn().with_context(|| format!("cannot start {name}"))?))
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A fixture: a number in, a line out. It ends with its standard input.
pub(super) struct Fixture {
    /// None while it is dropped.
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    running: Running,
}

impl Fixture {
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::spawn(command)?;
        let input = running.0.stdin.take().context("a fixture without stdin")?;
        let output = running.0.stdout.take().context("a fixture without stdout")?;
        Ok(Self { input: Some(input), output: BufReader::new(output), running })
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.id()
    }

    /// The next line it writes.
    pub(super) fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.output.read_line(&mut line).context("reading from a fixture")? != 0, "a fixture ended");
        Ok(line.trim_end().to_owned())
    }

    /// What it answers to `request`.
    pub(super) fn ask(&mut self, request: u64) -> Result<String> {
        // In one piece: a fixture takes what one read gives for a line.
        let input = self.input.as_mut().context("a fixture without stdin")?;
        input.write_all(format!("{request}\n").as_bytes()).context("writing to a fixture")?;
        self.line()
    }

    /// Asks until it answers a number: a program that it runs under may have something to say before.
    pub(super) fn await_number(&mut self, request: u64) -> Result<()> {
        let mut answer = self.ask(request)?;
        while answer.parse::<f64>().is_err() {
            answer = self.line()?;
        }
        Ok(())
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.input = None;
        // A program that it runs under has children of its own, and ends them.
        let end = Instant::now() + FAREWELL;
        while !self.running.has_ended() && Instant::now() < end {
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// Fixtures that answer what an operation cost, in ns.
impl Load for Fixture {
    fn pid(&self) -> u32 {
        self.pid()
    }

    fn cost(&mut self, operations: u64) -> Result<f64> {
        let answer = self.ask(operations)?;
        answer.parse().with_context(|| format!("a fixture answered {answer:?}"))
    }
}
