//! Children that are not traced and have inherited breakpoints: each of their calls traps, for nothing.

use std::time::{Duration, Instant};

use super::session::Session;
use crate::target::threads;

/// Children that are remembered.
const MOST: usize = 64;
/// The least time between two sweeps, and how many times as long as a sweep it is.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
const SHARE: u32 = 50;
/// The same where no child that is known lives: they may have children of their own.
const IDLE_PAUSE: Duration = Duration::from_secs(5);

/// Children that were forked since the last sweep.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// The targets that forked them, by index.
    parents: Vec<u32>,
    /// Some of them.
    pids: Vec<u32>,
    /// Whether there are others, or some whose pid is unknown.
    has_others: bool,
    /// When the last sweep began, and how long it took.
    last: Option<(Instant, Duration)>,
}

impl Inherited {
    fn add(&mut self, parents: impl IntoIterator<Item = u32>, child: u32) {
        for parent in parents {
            if !self.parents.contains(&parent) {
                self.parents.push(parent);
            }
        }
        if child == 0 || self.pids.len() >= MOST {
            self.has_others = true;
        } else {
            self.pids.push(child);
        }
    }

    /// Whether it is time for a sweep. Children that are gone are asked for once.
    fn is_due(&mut self, now: Instant, lives: impl Fn(u32) -> bool) -> bool {
        if self.parents.is_empty() {
            return false;
        }
        let Some((last, took)) = self.last else { return true };
        let pause = LEAST_PAUSE.max(took.saturating_mul(SHARE));
        let since = now.saturating_duration_since(last);
        if since < pause {
            return false;
        }
        self.pids.retain(|&pid| lives(pid));
        since >= IDLE_PAUSE || self.has_others || !self.pids.is_empty()
    }
}

impl Session {
    /// A target has forked a process that will not be traced: `child`, or 0 if its pid is unknown. `parent`: the target's index;
    /// `None`: it may have been any.
    pub(super) fn inherits(&mut self, parent: Option<u32>, child: u32) {
        let child = if self.tracer.shares_pids() { child } else { 0 };
        match parent {
            Some(parent) => self.inherited.add([parent], child),
            None => self.inherited.add(self.targets.iter().map(|target| target.index), child),
        }
        self.sweep();
    }

    /// Takes the breakpoints out of children, if it is time: of one target, as that takes a while. Another target that has the
    /// same files mapped may need no sweep of its own then, but not all have the same sites.
    pub(super) fn sweep(&mut self) {
        let begin = Instant::now();
        // Those of a window are taken out everywhere when it closes.
        if self.control.in_windows() || !self.inherited.is_due(begin, |pid| threads::living(pid).is_some()) {
            return;
        }
        // Where the thread has ended that holds a target's probes, they would be taken out too.
        let mut living = self.targets.iter().filter(|target| !target.process.has_exited());
        if !living.all(|target| threads::lives(target.pid().get(), target.holder())) {
            return;
        }
        let mut waiting = std::mem::take(&mut self.inherited.parents);
        let is_living =
            |of: u32| self.targets.iter().any(|of_it| of_it.index == of && !of_it.process.has_exited());
        waiting.retain(|&parent| is_living(parent));
        let parent = waiting.pop();
        let parent = parent.and_then(|parent| self.targets.iter().find(|target| target.index == parent));
        if let Some(target) = parent
            && let Err(error) = target.sweep(&mut self.tracer)
        {
            tracing::debug!("children of process {} keep breakpoints: {error}", target.pid());
        }
        let took = begin.elapsed();
        tracing::debug!("took breakpoints out of children, in {took:?}");
        // Children of others are those that live, as far as anybody knows.
        let has_others = !waiting.is_empty();
        self.inherited =
            Inherited { parents: waiting, pids: Vec::new(), has_others, last: Some((begin, took)) };
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{IDLE_PAUSE, Inherited, LEAST_PAUSE, MOST};

    #[test]
    fn children_of_children_are_not_forgotten() {
        let now = Instant::now();
        let after = |time: Duration| now + time;
        let mut inherited = Inherited::default();
        assert!(!inherited.is_due(now, |_| true), "nobody has forked");
        inherited.add([0], 7);
        assert!(inherited.is_due(now, |_| false), "the first time at once");
        inherited.last = Some((now, Duration::from_millis(2)));
        assert!(!inherited.is_due(after(LEAST_PAUSE / 2), |_| true));
        assert!(inherited.is_due(after(LEAST_PAUSE), |_| true));
        // The child is gone: it may have left a child.
        assert!(!inherited.is_due(after(LEAST_PAUSE), |_| false));
        assert!(inherited.is_due(after(IDLE_PAUSE), |_| false));
        // Too many to remember, of whom the first lives, or one that is unknown.
        for child in 100..=100 + MOST as u32 {
            inherited.add([0], child);
        }
        assert!(inherited.is_due(after(LEAST_PAUSE), |_| false));
        let mut unknown = Inherited { last: inherited.last, ..Inherited::default() };
        unknown.add([3], 0);
        assert!(unknown.is_due(after(LEAST_PAUSE), |_| false));
        // What takes long is done rarely.
        unknown.last = Some((now, Duration::from_millis(200)));
        assert!(
            !unknown.is_due(after(LEAST_PAUSE), |_| true) && unknown.is_due(after(2 * IDLE_PAUSE), |_| true)
        );
    }
}
