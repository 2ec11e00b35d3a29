//! What happens in a round, determined by seed and round alone. The exact times depend on the machine.

use std::time::Duration;

use nix::sys::signal::Signal;

use super::random::Random;

/// Targets in a round at most.
const MAX_TARGETS: u64 = 5;

/// How the agent traces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Mode {
    /// Every allocation, at whatever cost.
    Exact,
    /// A sample of them.
    Sampled,
    /// On the default budget.
    Budget,
    /// On one so small that only windows are left.
    Windows,
    /// It starts its target.
    Run,
    /// It traces the kernel.
    Kernel,
}

impl Mode {
    pub(super) const ALL: [Self; 6] =
        [Self::Exact, Self::Sampled, Self::Budget, Self::Windows, Self::Run, Self::Kernel];

    /// In messages and in the table.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sampled => "sampled",
            Self::Budget => "budget",
            Self::Windows => "windows",
            Self::Run => "run",
            Self::Kernel => "kernel",
        }
    }
}

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// After so many thousandths of the time that attaching takes.
    Attaching(u64),
    /// So long after everything is attached.
    Tracing(Duration),
    /// So long after the action before.
    After(Duration),
}

/// Whom it happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    Agent,
    /// The agent's process group: itself and its children.
    Group,
    /// One of the agent's children, if it has any.
    Child,
    /// One of the targets.
    Target(usize),
}

/// What is done to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Deed {
    Signal(Signal),
    /// Nobody reads its output any more.
    CloseOutput,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Action {
    pub(super) moment: Moment,
    pub(super) victim: Victim,
    pub(super) deed: Deed,
}

impl Action {
    /// Whether the agent comes to its end by it.
    pub(super) fn ends_the_agent(&self) -> bool {
        let is_agent = matches!(self.victim, Victim::Agent | Victim::Group);
        is_agent && !matches!(self.deed, Deed::Signal(Signal::SIGSTOP | Signal::SIGCONT | Signal::SIGPIPE))
    }
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) mode: Mode,
    /// Kinds of the targets, by index.
    pub(super) kinds: Vec<usize>,
    pub(super) actions: Vec<Action>,
}

impl Plan {
    /// The plan of a round with so many kinds of targets and these modes.
    pub(super) fn new(seed: u64, round: u64, kinds: usize, modes: &[Mode]) -> Self {
        let random = &mut Random::of(seed, round);
        let mode = random.of_all(modes).unwrap_or(Mode::Exact);
        let targets = if mode == Mode::Run { 1 } else { random.within(1..MAX_TARGETS + 1) };
        let kinds: Vec<usize> = (0..targets).map(|_| random.within(0..kinds as u64) as usize).collect();
        let mut actions = Vec::new();
        if random.percent(30) {
            actions.extend(pause(random, kinds.len()));
        }
        if random.percent(45) {
            actions.push(death(random, kinds.len()));
        }
        actions.extend(ending(random, kinds.len()));
        if mode == Mode::Run {
            // The command's output is the agent's.
            actions.iter_mut().filter(|action| action.deed == Deed::CloseOutput).for_each(|action| {
                action.deed = Deed::Signal(Signal::SIGINT);
            });
        }
        Self { mode, kinds, actions }
    }
}

impl Plan {
    /// Whether the agent's children are killed. One of those cannot take out what it has put in; the agent does then.
    pub(super) fn kills_children(&self) -> bool {
        self.actions.iter().any(|action| action.victim == Victim::Child)
    }
}

fn ms(random: &mut Random, most: u64) -> Duration {
    Duration::from_micros(random.within(0..most * 1000))
}

/// While the agent attaches, or later.
fn moment(random: &mut Random) -> Moment {
    if random.percent(45) {
        Moment::Attaching(random.within(0..1200))
    } else {
        Moment::Tracing(ms(random, 700))
    }
}

/// Somebody is stopped, and goes on later.
fn pause(random: &mut Random, targets: usize) -> [Action; 2] {
    let victim = match random.within(0..3) {
        0 => Victim::Agent,
        1 => Victim::Group,
        _ => Victim::Target(random.within(0..targets as u64) as usize),
    };
    let action = |moment, signal| Action { moment, victim, deed: Deed::Signal(signal) };
    let moment = moment(random);
    [action(moment, Signal::SIGSTOP), action(Moment::After(ms(random, 150)), Signal::SIGCONT)]
}

/// A target dies.
fn death(random: &mut Random, targets: usize) -> Action {
    let signals =
        [Signal::SIGKILL, Signal::SIGKILL, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGPIPE, Signal::SIGINT];
    let signal = random.of_all(&signals).unwrap_or(Signal::SIGKILL);
    let victim = Victim::Target(random.within(0..targets as u64) as usize);
    Action { moment: moment(random), victim, deed: Deed::Signal(signal) }
}

/// How the agent comes to its end.
fn ending(random: &mut Random, targets: usize) -> Vec<Action> {
    let polite = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];
    let polite = random.of_all(&polite).unwrap_or(Signal::SIGINT);
    let moment = moment(random);
    let agent = |moment, signal| Action { moment, victim: Victim::Agent, deed: Deed::Signal(signal) };
    let to = |action: Action, victim| Action { victim, ..action };
    match random.within(0..100) {
        // Killed outright.
        0..35 => vec![agent(moment, Signal::SIGKILL)],
        35..43 => vec![to(agent(moment, Signal::SIGKILL), Victim::Group)],
        // Killed on its way out.
        43..63 => {
            vec![agent(moment, polite), agent(Moment::After(ms(random, 400)), Signal::SIGKILL)]
        }
        63..70 => {
            let last = agent(Moment::After(ms(random, 400)), Signal::SIGKILL);
            vec![agent(moment, polite), to(last, Victim::Group)]
        }
        // Its children are killed under it.
        70..75 => {
            let child = to(agent(Moment::After(ms(random, 250)), Signal::SIGKILL), Victim::Child);
            vec![agent(moment, polite), child]
        }
        // All targets go, and the agent by itself.
        75..82 => (0..targets)
            .map(|target| {
                let next = if target == 0 { moment } else { Moment::After(ms(random, 20)) };
                to(agent(next, Signal::SIGKILL), Victim::Target(target))
            })
            .collect(),
        82..87 => vec![Action { deed: Deed::CloseOutput, ..agent(moment, polite) }],
        87..91 => vec![agent(moment, Signal::SIGPIPE), agent(Moment::After(ms(random, 100)), polite)],
        // Asked twice.
        91..95 => vec![agent(moment, polite), agent(Moment::After(ms(random, 200)), polite)],
        _ => vec![agent(moment, polite)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plans() -> Vec<Plan> {
        (0..2000).map(|round| Plan::new(5, round, 7, &Mode::ALL)).collect()
    }

    #[test]
    fn a_round_can_be_played_again() {
        assert_eq!(plans(), plans());
        assert_ne!(Plan::new(5, 3, 7, &Mode::ALL), Plan::new(6, 3, 7, &Mode::ALL));
    }

    #[test]
    fn everything_has_its_turn() {
        let plans = plans();
        for mode in Mode::ALL {
            assert!(plans.iter().filter(|plan| plan.mode == mode).count() > 100, "{mode:?}");
        }
        for kind in 0..7 {
            assert!(plans.iter().any(|plan| plan.kinds.contains(&kind)), "{kind}");
        }
        let kills = plans.iter().filter(|plan| {
            plan.actions
                .iter()
                .any(|action| action.victim == Victim::Agent && action.deed == Deed::Signal(Signal::SIGKILL))
        });
        assert!(kills.count() > 800);
        for victim in [Victim::Group, Victim::Child, Victim::Target(4)] {
            assert!(plans.iter().any(|plan| plan.actions.iter().any(|action| action.victim == victim)));
        }
    }

    #[test]
    fn who_is_stopped_goes_on() {
        for plan in plans() {
            let count =
                |signal| plan.actions.iter().filter(|action| action.deed == Deed::Signal(signal)).count();
            assert_eq!(count(Signal::SIGSTOP), count(Signal::SIGCONT));
            assert!((1..=5).contains(&plan.kinds.len()));
        }
    }

    #[test]
    fn a_pause_does_not_end_the_agent() {
        let to = |victim, signal| {
            Action { moment: Moment::Attaching(0), victim, deed: Deed::Signal(signal) }.ends_the_agent()
        };
        assert!(!to(Victim::Agent, Signal::SIGSTOP) && !to(Victim::Target(0), Signal::SIGKILL));
        assert!(to(Victim::Group, Signal::SIGKILL) && to(Victim::Agent, Signal::SIGINT));
    }
}
