//! An agent that stays while rounds come and go, and whose targets die one after the other: its memory has to stay as it
//! is.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::agent::{Agent, Place, judge, words};
use super::build::Built;
use super::plan::Mode;
use super::system::{TAG, anonymous_kib};
use super::target::{LIMIT, Target};

/// Targets that can die, and that stay.
const MORTALS: usize = 48;
/// What lively targets and others rest between two turns, in ms: they are not what the time is for.
const LIVELY: &str = "50";
const MORTAL: &str = "2000";
/// One of them dies every so many looks.
const EVERY: u64 = 4;
/// Distinct stacks that the agent tracks: few, so that the table is soon full. Each time a library is loaded again
/// there are new ones.
const STACKS: &str = "1024";
/// What the agent has after this time it has for good.
const WARM_UP: Duration = Duration::from_secs(15);
/// And so much more at most, in KiB: tables of the libraries that it names functions of come and go.
const GROWTH: u64 = 32 * 1024;

pub(super) struct Resident {
    agent: Agent,
    /// Programs that call `execve`, fork, and load libraries all the time.
    lively: Vec<Target>,
    mortals: Vec<Target>,
    begin: Instant,
    looks: u64,
    /// KiB at each look after the warm-up.
    memory: Vec<u64>,
    _directory: TempDir,
}

impl Resident {
    /// Starts the targets and an agent on all of them.
    pub(super) fn start(built: &Built) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let tag = format!("resident-{}", std::process::id());
        let start = |program: &str, argument: Option<&Path>, pause: &str, name: String| {
            let mut command = Command::new(built.programs.join(program));
            command.args(argument).env(TAG, &tag).env("TORTURE_PAUSE", pause);
            Target::start(&mut command, directory.path(), &name)
        };
        let plugin = built.programs.join("plugin.so");
        let lively = vec![
            start("again", None, LIVELY, "again".to_owned())?,
            start("children", None, LIVELY, "children".to_owned())?,
            start("host", Some(&plugin), LIVELY, "host".to_owned())?,
        ];
        let mortals = (0..MORTALS)
            .map(|at| start("churn", None, MORTAL, format!("mortal{at}")))
            .collect::<Result<Vec<_>>>()?;
        std::thread::sleep(Duration::from_millis(300));
        let pids: Vec<u32> = lively.iter().chain(&mortals).map(Target::pid).collect();
        let place =
            Place { program: &built.agent, tag: &tag, empty: directory.path(), logs: directory.path() };
        let mut words = words(Mode::Exact, &pids, None);
        words.extend(["--max-stacks", STACKS].map(Into::into));
        let agent = Agent::start(&place, &words, false)?;
        let begin = Instant::now();
        Ok(Self { agent, lively, mortals, begin, looks: 0, memory: Vec::new(), _directory: directory })
    }

    /// Looks at its memory, and lets a target die now and then.
    pub(super) fn look(&mut self) -> Result<()> {
        self.looks += 1;
        if self.looks.is_multiple_of(EVERY)
            && self.agent.is_in_place()
            && let Some(mut mortal) = self.mortals.pop()
        {
            mortal.signal(Signal::SIGKILL);
            mortal.end()?;
        }
        if self.begin.elapsed() >= WARM_UP
            && let Some(now) = anonymous_kib(self.agent.process.pid())
        {
            self.memory.push(now);
        }
        Ok(())
    }

    /// In a line.
    pub(super) fn describe(&self) -> String {
        let dead = MORTALS - self.mortals.len();
        let memory = self.memory.iter();
        let range = memory.clone().min().zip(memory.max());
        let memory = range.map_or_else(String::new, |(least, most)| format!(", {least} to {most} KiB"));
        format!("the agent that stays: {dead} targets died{memory}")
    }

    /// Ends it; what was wrong.
    pub(super) fn end(mut self) -> Result<Vec<String>> {
        let mut failures = Vec::new();
        if !self.agent.process.lives() {
            failures.push("the agent that stays has ended".to_owned());
        }
        let growth = growth(&self.memory);
        if growth > GROWTH {
            failures.push(format!("{}, {growth} KiB more than at first", self.describe()));
        }
        self.agent.signal(Signal::SIGINT);
        self.agent.process.end_within(LIMIT)?;
        let (ended, sent) = self.agent.end()?;
        failures.extend(judge(&ended, &sent, false, false));
        for target in self.lively.into_iter().chain(self.mortals) {
            let ended = target.end()?;
            if !ended.status.is_some_and(|status| status.success()) {
                failures.push(format!("a target of the agent that stays: {}", ended.describe()));
            }
        }
        Ok(failures)
    }
}

/// By how much the least of the last third is more than the most of the first.
fn growth(memory: &[u64]) -> u64 {
    let third = memory.len() / 3;
    let first = memory.iter().take(third).max();
    let last = memory.iter().rev().take(third).min();
    first.zip(last).map_or(0, |(first, last)| last.saturating_sub(*first))
}

#[cfg(test)]
mod tests {
    use super::growth;

    #[test]
    fn a_peak_is_no_growth() {
        assert_eq!(growth(&[10, 11, 90, 95, 12, 11]), 0);
        assert_eq!(growth(&[10, 11, 12, 20, 30, 35]), 19);
        assert_eq!(growth(&[10, 99]), 0);
    }
}
