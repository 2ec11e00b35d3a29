//! What has to hold after a round.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::agent::{Agent, STARTED, judge};
use super::kinds::Kind;
use super::plan::{Mode, Plan};
use super::round::Bench;
use super::system::{TAG, describe, living, names, runs, tagged};
use super::target::{Ended, LIMIT, STEP, Target, last_of};
use super::text;

/// What came out of a round.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    pub(super) failures: Vec<String>,
    /// What the agent died of, if it was a signal.
    pub(super) agent: Option<Signal>,
    /// Kinds of the targets that were killed.
    pub(super) died: Vec<usize>,
}

/// What is known of a round, and what is found.
pub(super) struct Checks<'a> {
    pub(super) bench: &'a Bench<'a>,
    pub(super) plan: &'a Plan,
    tag: String,
    directory: TempDir,
    /// Targets that were sent a signal that ends them.
    harmed: BTreeSet<usize>,
    outcome: Outcome,
}

impl<'a> Checks<'a> {
    pub(super) fn new(bench: &'a Bench<'a>, plan: &'a Plan, tag: String) -> Result<Self> {
        let directory = tempfile::tempdir().context("a temporary directory")?;
        let checks =
            Self { bench, plan, tag, directory, harmed: BTreeSet::new(), outcome: Outcome::default() };
        fs::create_dir(checks.empty()).context("a directory for the agent")?;
        Ok(checks)
    }

    /// What the round's processes are known by.
    pub(super) fn tag(&self) -> &str {
        &self.tag
    }

    /// Where everybody's output goes.
    pub(super) fn logs(&self) -> &Path {
        self.directory.path()
    }

    /// Where the agent may leave nothing.
    pub(super) fn empty(&self) -> PathBuf {
        self.directory.path().join("empty")
    }

    pub(super) fn kind(&self, target: usize) -> Option<&'a Kind> {
        self.bench.kinds.get(*self.plan.kinds.get(target)?)
    }

    pub(super) fn harm(&mut self, target: usize) {
        self.harmed.insert(target);
    }

    pub(super) fn is_harmed(&self, target: usize) -> bool {
        self.harmed.contains(&target)
    }

    pub(super) fn fail(&mut self, what: impl Into<String>) {
        self.outcome.failures.push(what.into());
    }

    /// Starts a target and waits until it has its C library.
    pub(super) fn start_target(&self, target: usize, name: &str) -> Result<Target> {
        let kind = self.kind(target).context("a target without a kind")?;
        let mut target = Target::start(kind.command().env(TAG, &self.tag), self.logs(), name)?;
        let end = Instant::now() + LIMIT;
        while !has_c_library(target.pid()) && target.lives() && Instant::now() < end {
            thread::sleep(STEP);
        }
        Ok(target)
    }

    /// Processes of this round that are not the agent's.
    pub(super) fn others(&self) -> Vec<u32> {
        tagged(&self.tag).into_iter().filter(|pid| !runs(*pid, &self.bench.built.agent)).collect()
    }

    /// Ends everything and looks at what is left.
    pub(super) fn after(mut self, targets: Vec<Target>, agent: Agent) -> Result<Outcome> {
        let (ended, sent) = if self.plan.mode == Mode::Run {
            // The agent waits for its command, which goes on.
            self.await_clean_text();
            agent.end()?
        } else {
            let ended = agent.end()?;
            self.await_clean_text();
            ended
        };
        self.judge_agent(&ended, &sent);
        for (at, target) in targets.into_iter().enumerate() {
            self.judge_target(at, &target.end()?);
        }
        self.await_no_process();
        if self.plan.mode == Mode::Run {
            self.judge_command(&ended, &sent);
        }
        let left = names(&self.empty());
        if !left.is_empty() {
            self.fail(format!("files are left: {}", left.join(", ")));
        }
        self.start_afresh()?;
        Ok(self.outcome)
    }

    /// Closing what a killed process had open can go on after its end.
    fn await_clean_text(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            let dirty: Vec<_> = self.others().into_iter().map(|pid| (pid, text::differences(pid))).collect();
            let Some((pid, places)) = dirty.into_iter().find(|(_, places)| !places.is_empty()) else {
                return;
            };
            if Instant::now() >= end {
                let agents = tagged(&self.tag).into_iter().filter(|pid| runs(*pid, &self.bench.built.agent));
                let agents: Vec<String> = agents.map(describe).collect();
                return self.fail(format!(
                    "the code of {} is changed: {}; agents: {}",
                    describe(pid),
                    places.join("; "),
                    agents.join("; ")
                ));
            }
            thread::sleep(STEP);
        }
    }

    /// Waits until no process of the round is left.
    fn await_no_process(&mut self) {
        let end = Instant::now() + LIMIT;
        loop {
            let left = tagged(&self.tag);
            if left.is_empty() {
                return;
            }
            if Instant::now() >= end {
                let left: Vec<String> = left.into_iter().map(describe).collect();
                return self.fail(format!("processes are left: {}", left.join("; ")));
            }
            thread::sleep(STEP);
        }
    }

    fn judge_agent(&mut self, ended: &Ended, sent: &[Signal]) {
        // It cannot attach with a child that is killed while it does.
        let refuses = !self.harmed.is_empty()
            || self.plan.kills_children()
            || (0..self.plan.kinds.len()).any(|at| self.kind(at).is_some_and(Kind::may_be_refused));
        // A command that was killed makes the agent's status.
        let own = self.plan.mode == Mode::Run && self.is_harmed(0);
        self.outcome.agent = ended.signal();
        if let Some(wrong) = judge(ended, sent, refuses, own) {
            self.fail(wrong);
        }
    }

    fn judge_target(&mut self, at: usize, ended: &Ended) {
        let Some(kind) = self.kind(at) else { return };
        let well = ended.status.is_some_and(|status| status.success())
            && ended.output.trim() == kind.expected
            && ended.errors.is_empty();
        if ended.signal().is_some() && self.is_harmed(at) {
            self.outcome.died.extend(self.plan.kinds.get(at));
        } else if !well {
            self.fail(format!("{}: {}, untraced it prints {:?}", kind.name, ended.describe(), kind.expected));
        }
    }

    /// A command that the agent has started: its output is in the agent's.
    fn judge_command(&mut self, agent: &Ended, sent: &[Signal]) {
        let Some(kind) = self.kind(0) else { return };
        // The agent may have had no time to start it; and while it is held it dies with the agent.
        let may_be_missing = !sent.is_empty() && !agent.errors.contains(STARTED);
        let output = fs::read(self.logs().join("agent.out")).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        if output.contains(&kind.expected) {
            return;
        }
        if self.is_harmed(0) {
            self.outcome.died.extend(self.plan.kinds.first());
        } else if !may_be_missing {
            let (name, last) = (kind.name, last_of(&output));
            self.fail(format!("{name}, started by the agent, did not print {:?}: {last:?}", kind.expected));
        }
    }

    /// Another process with the same files is untouched.
    fn start_afresh(&mut self) -> Result<()> {
        let fresh = self.start_target(0, "fresh")?;
        let places = text::differences(fresh.pid());
        if !places.is_empty() {
            self.fail(format!("the code of a process started later is changed: {}", places.join("; ")));
        }
        let ended = fresh.end()?;
        let Some(kind) = self.kind(0) else { return Ok(()) };
        if ended.output.trim() != kind.expected {
            self.fail(format!("{}, started later: {}", kind.name, ended.describe()));
        }
        Ok(())
    }
}

/// Whether a process has mapped its C library, as code.
fn has_c_library(pid: u32) -> bool {
    let maps = fs::read_to_string(living(pid).join("maps")).unwrap_or_default();
    maps.lines().any(|line| line.contains(" r-xp ") && line.contains("libc.so"))
}
