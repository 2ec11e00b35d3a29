//! When to check whether a target's breakpoints are still in its code: figures that stop moving must not go unnoticed.

use std::time::Duration;

/// CPU time in which a target could have made a call.
const BUSY: Duration = Duration::from_millis(1);
/// Turns after which a busy target is checked although calls arrive: they may come from another target, or from some
/// of the functions only.
const TURNS: u32 = 10;
/// The most turns between two checks of a target that works without making calls: that may be normal for it.
const MOST: u32 = 16;

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Nothing.
    No,
    /// Compare the code.
    Briefly,
    /// Also read the mappings.
    Closely,
}

/// Decides once a second, a turn, for one target.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// Runs of the programs and CPU time at the last turn with new runs.
    heard: Option<(u64, Duration)>,
    /// CPU time at the last check.
    looked: Duration,
    /// Turns since.
    turns: u32,
    /// Turns before the next check of a silent target.
    pause: u32,
}

impl Watchdog {
    /// A turn: `runs` of the programs so far, for all targets, and CPU time that this one has used.
    pub(super) fn turn(&mut self, runs: u64, cpu: Duration) -> Look {
        self.turns = self.turns.saturating_add(1);
        let (known, at) = *self.heard.get_or_insert((runs, cpu));
        let look = if runs != known {
            self.heard = Some((runs, cpu));
            self.pause = 0;
            if self.turns >= TURNS && cpu.saturating_sub(self.looked) >= BUSY {
                Look::Briefly
            } else {
                Look::No
            }
        } else if cpu.saturating_sub(at.max(self.looked)) >= BUSY && self.turns > self.pause {
            self.pause = (self.pause * 2).clamp(1, MOST);
            Look::Closely
        } else {
            Look::No
        };
        if look != Look::No {
            (self.looked, self.turns) = (cpu, 0);
        }
        look
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Look, Watchdog};

    /// What is done at each turn; of `calls` and `ms` of CPU time in each.
    fn turns(dog: &mut Watchdog, state: &mut (u64, u64), count: usize, calls: u64, ms: u64) -> Vec<Look> {
        (0..count)
            .map(|_| {
                *state = (state.0 + calls, state.1 + ms);
                dog.turn(state.0, Duration::from_millis(state.1))
            })
            .collect()
    }

    fn looks(found: &[Look], look: Look) -> Vec<usize> {
        found.iter().enumerate().filter(|(_, found)| **found == look).map(|(turn, _)| turn).collect()
    }

    #[test]
    fn a_target_that_falls_silent_is_looked_at_at_once() {
        let (mut dog, mut state) = (Watchdog::default(), (0, 0));
        assert_eq!(looks(&turns(&mut dog, &mut state, 5, 100, 2), Look::Closely), [0; 0]);
        assert_eq!(turns(&mut dog, &mut state, 1, 0, 2), [Look::Closely]);
    }

    #[test]
    fn one_that_stays_silent_is_looked_at_less_and_less_often() {
        let (mut dog, mut state) = (Watchdog::default(), (7, 0));
        let found = turns(&mut dog, &mut state, 80, 0, 1000);
        assert_eq!(looks(&found, Look::Closely), [1, 3, 6, 11, 20, 37, 54, 71]);
        // Once calls arrive, it is trusted again.
        turns(&mut dog, &mut state, 1, 1, 10);
        assert_eq!(looks(&turns(&mut dog, &mut state, 4, 0, 10), Look::Closely), [0, 2]);
    }

    #[test]
    fn a_target_that_does_not_run_is_left_alone() {
        let (mut dog, mut state) = (Watchdog::default(), (7, 0));
        assert!(turns(&mut dog, &mut state, 100, 0, 0).iter().all(|look| *look == Look::No));
        // Nor is one when another target's calls come.
        assert!(turns(&mut dog, &mut state, 100, 5, 0).iter().all(|look| *look == Look::No));
    }

    #[test]
    fn one_that_is_heard_is_looked_at_now_and_then() {
        let (mut dog, mut state) = (Watchdog::default(), (0, 0));
        let found = turns(&mut dog, &mut state, 35, 100, 50);
        assert_eq!(looks(&found, Look::Briefly), [9, 19, 29]);
    }
}
