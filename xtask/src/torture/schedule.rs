//! When the actions of a plan are due.

use std::time::Duration;

use super::plan::{Action, Moment};

/// Actions that follow each other; chains run beside each other.
struct Chain {
    actions: Vec<Action>,
    /// How many are done, and when the last one was.
    done: usize,
    last: Duration,
}

/// What is still to be done. Times are counted from the agent's start.
pub(super) struct Schedule {
    chains: Vec<Chain>,
    /// What attaching takes.
    attaching: Duration,
}

impl Schedule {
    pub(super) fn new(actions: &[Action], attaching: Duration) -> Self {
        let mut chains: Vec<Chain> = Vec::new();
        for &action in actions {
            match (action.moment, chains.last_mut()) {
                (Moment::After(_), Some(chain)) => chain.actions.push(action),
                _ => chains.push(Chain { actions: vec![action], done: 0, last: Duration::ZERO }),
            }
        }
        Self { chains, attaching }
    }

    /// What is due now; `attached`: since when everything is in place.
    pub(super) fn due(&mut self, now: Duration, attached: Option<Duration>) -> Vec<Action> {
        let mut due = Vec::new();
        for chain in &mut self.chains {
            let Some(&action) = chain.actions.get(chain.done) else { continue };
            let at = match action.moment {
                Moment::Attaching(thousandths) => Some(self.attaching * thousandths as u32 / 1000),
                Moment::Tracing(after) => attached.map(|attached| attached + after),
                Moment::After(after) => Some(chain.last + after),
            };
            if at.is_some_and(|at| at <= now) {
                chain.done += 1;
                chain.last = now;
                due.push(action);
            }
        }
        due
    }

    pub(super) fn is_done(&self) -> bool {
        self.chains.iter().all(|chain| chain.done == chain.actions.len())
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::signal::Signal;

    use super::super::plan::{Deed, Victim};
    use super::*;

    const fn ms(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[test]
    fn chains_run_beside_each_other() {
        let action = |moment| Action { moment, victim: Victim::Agent, deed: Deed::Signal(Signal::SIGINT) };
        let actions =
            [action(Moment::Attaching(500)), action(Moment::After(ms(10))), action(Moment::Tracing(ms(5)))];
        let mut schedule = Schedule::new(&actions, ms(100));
        assert_eq!(schedule.due(ms(49), None), []);
        assert_eq!(schedule.due(ms(55), None), [action(Moment::Attaching(500))]);
        // Ten after it really was.
        assert_eq!(schedule.due(ms(64), None), []);
        assert_eq!(schedule.due(ms(65), Some(ms(62))), [action(Moment::After(ms(10)))]);
        assert!(!schedule.is_done());
        assert_eq!(schedule.due(ms(67), Some(ms(62))), [action(Moment::Tracing(ms(5)))]);
        assert!(schedule.is_done());
    }
}
