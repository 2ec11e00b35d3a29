//! Children that are not traced and have inherited breakpoints: each of their calls traps, for nothing.

use std::{
    collections::VecDeque,
    path::PathBuf,
    time::{Duration, Instant},
};

use rustc_hash::FxHashSet;

use super::session::Session;
use crate::target::threads;

/// Children that are remembered.
const MOST: usize = 64;
/// The least time between two sweeps, and how many times as long as a sweep it is.
const LEAST_PAUSE: Duration = Duration::from_millis(500);
const SHARE: u32 = 50;

/// Children that were forked since the last sweep.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    /// The last of them; 0 is one whose pid is unknown.
    pids: VecDeque<u32>,
    /// When the next sweep may be.
    next: Option<Instant>,
}

impl Inherited {
    fn add(&mut self, pid: u32) {
        if self.pids.len() >= MOST {
            self.pids.pop_front();
        }
        self.pids.push_back(pid);
    }
}

impl Session {
    /// A target has forked a process that will not be traced: `child`, or 0 if its pid is unknown.
    pub(super) fn inherits(&mut self, child: u32) {
        let shares_pids = self.tracer.shares_pids();
        self.inherited.add(if shares_pids { child } else { 0 });
        self.sweep();
    }

    /// Takes the breakpoints out of children that live, if it is time.
    pub(super) fn sweep(&mut self) {
        let Inherited { pids, next } = &mut self.inherited;
        // Those of a window are taken out everywhere when it closes.
        if pids.is_empty() || self.control.in_windows() || next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let begin = Instant::now();
        let lives = pids.iter().any(|&pid| pid == 0 || threads::living(pid).is_some());
        pids.clear();
        if !lives {
            return;
        }
        // What is removed at a place in a file is removed wherever that file is mapped.
        let mut swept: FxHashSet<PathBuf> = FxHashSet::default();
        for target in self.targets.iter_mut().filter(|target| !target.process.has_exited()) {
            let files = target.specs.iter().map(|spec| &spec.file);
            let before = swept.len();
            swept.extend(files.cloned());
            if swept.len() == before {
                continue;
            }
            if let Err(error) = target.sweep(&mut self.tracer) {
                tracing::debug!("children of process {} keep breakpoints: {error}", target.pid());
            }
        }
        let took = begin.elapsed();
        tracing::debug!("took breakpoints out of children, in {took:?}");
        self.inherited.next = Some(begin + LEAST_PAUSE.max(took.saturating_mul(SHARE)));
    }
}
