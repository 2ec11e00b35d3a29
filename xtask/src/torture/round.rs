//! A round: targets and an agent are started, things happen to them, and then everything must be as if nothing had
//! been there.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent::{Agent, Place, words};
use super::build::Built;
use super::checks::{Checks, Outcome};
use super::kinds::Kind;
use super::plan::{Action, Deed, Mode, Plan, Victim};
use super::schedule::Schedule;
use super::system::{children, describe, runs, tagged};
use super::target::{LIMIT, Target};

/// The assumed time to attach before it has been measured.
const ATTACHING: Duration = Duration::from_millis(150);
/// Between two looks at what is due.
const TICK: Duration = Duration::from_micros(500);

/// What all rounds share.
pub(super) struct Bench<'a> {
    pub(super) built: &'a Built,
    pub(super) kinds: &'a [Kind],
    /// What attaching took the last time.
    attaching: RefCell<BTreeMap<Mode, Duration>>,
}

impl<'a> Bench<'a> {
    pub(super) fn new(built: &'a Built, kinds: &'a [Kind]) -> Self {
        Self { built, kinds, attaching: RefCell::default() }
    }
}

/// A round at work.
struct Round<'a> {
    targets: Vec<Target>,
    agent: Agent,
    checks: Checks<'a>,
}

/// Plays it.
///
/// # Errors
/// The suite itself cannot go on. What the agent does wrong is in the outcome.
pub(super) fn play(bench: &Bench<'_>, plan: &Plan, number: u64) -> Result<Outcome> {
    let mut round = Round::begin(bench, plan, format!("{}-{number}", std::process::id()))?;
    round.act();
    round.go_on();
    let Round { targets, agent, checks } = round;
    checks.after(targets, agent)
}

impl<'a> Round<'a> {
    fn begin(bench: &'a Bench<'a>, plan: &'a Plan, tag: String) -> Result<Self> {
        let checks = Checks::new(bench, plan, tag)?;
        let mut targets = Vec::new();
        if plan.mode != Mode::Run {
            for at in 0..plan.kinds.len() {
                targets.push(checks.start_target(at, &format!("target{at}"))?);
            }
        }
        let pids: Vec<u32> = targets.iter().map(Target::pid).collect();
        let words = words(plan.mode, &pids, checks.kind(0));
        let place = Place {
            program: &bench.built.agent,
            tag: checks.tag(),
            empty: &checks.empty(),
            logs: checks.logs(),
        };
        let piped = plan.actions.iter().any(|action| action.deed == Deed::CloseOutput);
        let agent = Agent::start(&place, &words, piped)?;
        Ok(Self { targets, agent, checks })
    }

    /// Does what is planned, as long as there is an agent.
    fn act(&mut self) {
        let Checks { bench, plan, .. } = self.checks;
        let begin = Instant::now();
        let known = bench.attaching.borrow().get(&plan.mode).copied();
        let mut schedule = Schedule::new(&plan.actions, known.unwrap_or(ATTACHING));
        let mut attached = None;
        while !schedule.is_done() && self.agent.process.lives() && begin.elapsed() < LIMIT {
            if attached.is_none() && self.agent.is_in_place() {
                attached = Some(begin.elapsed());
                bench.attaching.borrow_mut().insert(plan.mode, begin.elapsed());
            }
            for action in schedule.due(begin.elapsed(), attached) {
                self.execute(action);
            }
            thread::sleep(TICK);
        }
        if begin.elapsed() >= LIMIT {
            let what = describe(self.agent.process.pid());
            self.checks.fail(format!("the agent is not in place after {LIMIT:?}: {what}"));
        }
    }

    fn execute(&mut self, action: Action) {
        let signal = match action.deed {
            Deed::Signal(signal) => signal,
            Deed::CloseOutput => return self.agent.close_output(),
        };
        let ends = !matches!(signal, Signal::SIGSTOP | Signal::SIGCONT);
        match action.victim {
            Victim::Agent => {
                // It is passed on to the command.
                if signal == Signal::SIGTERM && self.checks.plan.mode == Mode::Run {
                    self.checks.harm(0);
                }
                self.agent.signal(signal);
            }
            Victim::Group => {
                // A stopped command whose agent dies is hung up by the kernel: its group is orphaned.
                if self.checks.plan.mode == Mode::Run {
                    self.checks.harm(0);
                }
                self.agent.signal_group(signal);
            }
            Victim::Child => {
                let children = children(self.agent.process.pid());
                if let Some(child) =
                    children.into_iter().find(|pid| runs(*pid, &self.checks.bench.built.agent))
                {
                    send(child, signal);
                }
            }
            Victim::Target(at) => {
                if ends {
                    self.checks.harm(at);
                }
                match self.targets.get_mut(at) {
                    Some(target) => target.signal(signal),
                    None => self.checks.others().into_iter().for_each(|pid| send(pid, signal)),
                }
            }
        }
    }

    /// No process stays stopped, and an agent that is still running is ended.
    fn go_on(&mut self) {
        for pid in tagged(self.checks.tag()) {
            send(pid, Signal::SIGCONT);
        }
        let plan = self.checks.plan;
        let ends_by_itself =
            plan.mode != Mode::Kernel && (0..plan.kinds.len()).all(|at| self.checks.is_harmed(at));
        if !ends_by_itself && !plan.actions.iter().any(Action::ends_the_agent) {
            self.agent.signal(Signal::SIGINT);
        }
    }
}

fn send(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
}
