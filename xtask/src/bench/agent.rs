//! The agent: started on a process, listened to, and gone when dropped.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::child::Running;
use super::report::Report;

/// What the agent writes to stderr once every probe is in place, unless it reports for scripts.
const ATTACHED: &str = "memtrace: attached to ";
/// What the first line of a report's totals begins with; a report for scripts is one object.
const REPORT: [&str; 2] = ["Outstanding:", "{"];

/// What an agent with a budget is given to make up its mind, from its first report on.
const SETTLED: Duration = Duration::from_secs(3);
/// Between two looks for its first report.
const STEP: Duration = Duration::from_millis(50);

/// What tracing may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Whatever it costs: nothing is left out that was asked for.
    Off,
    /// What the agent does by itself.
    Default,
    Percent(u32),
}

impl Limit {
    fn options(self) -> Vec<String> {
        match self {
            Self::Off => vec!["--max-overhead".to_owned(), "off".to_owned()],
            Self::Default => Vec::new(),
            Self::Percent(percent) => vec!["--max-overhead".to_owned(), format!("{percent}%")],
        }
    }
}

/// A started agent.
pub(super) struct Agent {
    running: Running,
    /// First lines of reports.
    reports: Receiver<String>,
    /// Lines from stderr.
    messages: Receiver<String>,
}

impl Agent {
    /// Starts it on processes.
    fn start(program: &Path, pids: &[u32], limit: Limit, options: &[&str]) -> Result<Self> {
        let mut command = Command::new(program);
        command.arg("attach").args(pids.iter().map(u32::to_string)).args(limit.options()).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::spawn(&mut command)?;
        let output = running.0.stdout.take().context("an agent without stdout")?;
        let errors = running.0.stderr.take().context("an agent without stderr")?;
        let begins_report = |line: &str| REPORT.iter().any(|start| line.starts_with(start));
        Ok(Self { reports: lines(output, begins_report), messages: lines(errors, |_| true), running })
    }

    /// Starts it and returns when every probe is in place.
    pub(super) fn attach(program: &Path, pid: u32, limit: Limit, options: &[&str]) -> Result<Self> {
        Self::attach_all(program, &[pid], limit, options)
    }

    /// The same with several processes.
    pub(super) fn attach_all(program: &Path, pids: &[u32], limit: Limit, options: &[&str]) -> Result<Self> {
        let agent = Self::start(program, pids, limit, options)?;
        let mut said = Vec::new();
        while let Ok(line) = agent.messages.recv() {
            if line.starts_with(ATTACHED) {
                return Ok(agent);
            }
            said.push(line);
        }
        bail!("memtrace did not attach: {}", said.join(" "))
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.id()
    }

    /// Waits for the next report that begins after this call; its first line.
    pub(super) fn await_report(&mut self) -> Result<String> {
        while self.reports.try_recv().is_ok() {}
        match self.reports.recv() {
            Ok(line) => Ok(line),
            Err(_) => bail!("memtrace ended before its report: {}", self.last_words()),
        }
    }

    /// The newest report since the last question, from an agent that reports for scripts.
    fn newest(&mut self) -> Result<Option<Report>> {
        let newest = self.reports.try_iter().last();
        newest.as_deref().map(Report::parse).transpose()
    }

    /// What it has written to stderr, up to its end.
    fn last_words(&self) -> String {
        self.messages.iter().collect::<Vec<_>>().join(" ")
    }
}

/// An agent with a budget that has seen the program at work, and chosen how to trace it.
pub(super) struct Chosen {
    agent: Agent,
    last: Report,
}

impl Chosen {
    /// Starts it on a process that works meanwhile. It reports every second.
    pub(super) fn attach(
        program: &Path,
        pid: u32,
        limit: Limit,
        mut work: impl FnMut(Duration) -> Result<()>,
    ) -> Result<Self> {
        let mut agent = Agent::start(program, &[pid], limit, &["-f", "json", "-i", "1s"])?;
        let last = loop {
            work(STEP)?;
            let has_ended = agent.running.has_ended();
            if let Some(report) = agent.newest()? {
                break report;
            }
            if has_ended {
                bail!("memtrace did not attach: {}", agent.last_words());
            }
        };
        work(SETTLED)?;
        Ok(Self { agent, last })
    }

    /// Its last report, and how it traced. An agent that cannot keep its budget detaches, and may end: it says why.
    pub(super) fn end(mut self) -> Result<(Report, String)> {
        let ending = self.agent.running.has_ended().then(|| self.agent.last_words());
        let last = self.agent.newest()?.unwrap_or(self.last);
        let mut mode = last.describe();
        if let Some(ending) = ending {
            mode.push_str(&format!(", ended with «{ending}»"));
        }
        Ok((last, mode))
    }
}

/// Reads lines as they come, so that the writer never waits, and passes on those that are wanted.
fn lines(stream: impl Read + Send + 'static, wanted: fn(&str) -> bool) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let lines = BufReader::new(stream).lines().map_while(Result::ok);
        for line in lines.filter(|line| wanted(line)) {
            // Nobody listens any more: read on, until the writer is gone too.
            let _ = sender.send(line);
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_lines_come_through_until_the_stream_ends() {
        let text: &[u8] = b"a\nOutstanding: 3\n\n{}\nb\n";
        let wanted = lines(text, |line| REPORT.iter().any(|start| line.starts_with(start)));
        assert_eq!(wanted.iter().collect::<Vec<_>>(), ["Outstanding: 3", "{}"]);
    }
}
