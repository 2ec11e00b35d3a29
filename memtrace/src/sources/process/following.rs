//! Processes that join a session while it runs: those that descend from its targets (`--follow`), and those that have a certain name
//! or are in a certain cgroup or container.
//!
//! The kernel side reports each fork of a target, and of what descends from it before that is traced itself. What it cannot
//! report (its events are full, or the agent does not know the pids that it sees) is found in /proc.

use std::{collections::VecDeque, num::NonZeroU32, time::Instant};

use memtrace_common::MAX_TARGETS;
use rustc_hash::FxHashSet;

use super::{session::Session, traced::Traced};
use crate::{
    profile::Remark,
    report::left_behind,
    session::Watched,
    target::{Process, relatives, select::Selector, usage},
};

/// Processes that wait to be traced, at most. Of more, those that live long enough are found in /proc.
const MAX_PENDING: usize = 4096;
/// Followed processes that have exited and are still shown, at most.
const SHOWN_EXITED: usize = 32;
/// Turns between two looks into /proc, where events say what is new.
const LOOK_TURNS: u32 = 10;
/// Generations of parents that are looked at.
const MAX_DEPTH: usize = 64;

/// How a target came to be one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Origin {
    /// Whether it descends from another one.
    pub(super) followed: bool,
    /// The generation of its index when its tracing began.
    pub(super) generation: u32,
}

/// A process that may be traced soon.
#[derive(Clone, Copy, Debug)]
struct Pending {
    pid: u32,
    /// Whether the kernel side reported it.
    forked: bool,
}

/// What is known of processes that join.
#[derive(Debug, Default)]
pub(super) struct Following {
    wanted: bool,
    /// What selects others.
    select: Selector,
    pending: VecDeque<Pending>,
    /// Forks whose process is traced, or needs not be.
    settled: u64,
    /// Processes that were followed.
    followed: u64,
    /// Exited ones that are no longer shown.
    forgotten: u64,
    /// Living ones that cannot be traced: for lack of room, or because of what they are.
    refused: FxHashSet<u32>,
    /// Targets that have exited and were detached, by index; the first one first.
    exited: VecDeque<u32>,
    /// Turns since the last look into /proc.
    turns: u32,
    /// Whether it was said that only followed processes live.
    has_announced: bool,
}

impl Following {
    pub(super) fn new(wanted: bool, select: Selector) -> Self {
        Self { wanted, select, ..Self::default() }
    }

    /// Of `forks` processes that targets have forked, those that were not followed.
    pub(super) fn missed(&self, forks: u64) -> u64 {
        forks.saturating_sub(
            self.settled + self.pending.iter().filter(|pending| pending.forked).count() as u64,
        )
    }

    fn add(&mut self, pid: u32, forked: bool) {
        let is_known = self.pending.iter().any(|pending| pending.pid == pid && !forked);
        if !is_known && self.pending.len() < MAX_PENDING {
            self.pending.push_back(Pending { pid, forked });
        }
    }
}

impl Session {
    /// Begins to trace what descends from the targets already, if they are followed.
    pub fn follow_existing(&mut self) {
        if self.following.wanted {
            self.seek();
        }
    }

    /// A target has forked a process: `child`, or 0 if its pid is unknown.
    pub(super) fn forked(&mut self, target: u32, child: u32) {
        match child {
            _ if !self.following.wanted => self.inherits(Some(target), child),
            0 => self.following.turns = LOOK_TURNS,
            _ if !self.tracer.shares_pids() => self.following.turns = LOOK_TURNS,
            child => self.following.add(child, true),
        }
    }

    /// A turn of the watchdog: forgets what has exited, and looks for what was not reported.
    pub(super) fn follow_turn(&mut self) {
        if !self.following.wanted && self.following.select.is_empty() {
            return;
        }
        self.retire();
        self.announce_left();
        self.following.turns += 1;
        if self.following.turns >= LOOK_TURNS || !self.tracer.shares_pids() {
            self.seek();
        }
    }

    /// Looks in /proc for what is selected, and for descendants of targets, and begins to trace them.
    fn seek(&mut self) {
        self.following.turns = 0;
        if !self.following.select.is_empty() {
            for pid in self.following.select.pids() {
                if !self.following.refused.contains(&pid) && !self.is_traced(pid) {
                    self.following.add(pid, false);
                }
            }
            self.follow_pending(None);
        }
        let mut at = if self.following.wanted { 0 } else { self.targets.len() };
        // The targets that this adds are looked at too.
        while let Some(target) = self.targets.get(at) {
            at += 1;
            if target.process.has_exited() {
                continue;
            }
            for pid in usage::children(target.pid().get()) {
                if !self.following.refused.contains(&pid) {
                    self.following.add(pid, false);
                }
            }
            self.follow_pending(None);
        }
        self.following.refused.retain(|pid| relatives::parent(*pid).is_some());
    }

    /// Begins to trace what has been found, up to a time. Returns whether that was all.
    pub(super) fn follow_pending(&mut self, end: Option<Instant>) -> bool {
        while let Some(Pending { pid, forked }) = self.following.pending.pop_front() {
            if self.is_traced(pid) || self.is_own(pid) || self.join(pid) {
                self.following.settled += u64::from(forked);
            }
            if end.is_some_and(|end| Instant::now() >= end) {
                return self.following.pending.is_empty();
            }
        }
        true
    }

    fn is_traced(&self, pid: u32) -> bool {
        self.targets.iter().any(|target| target.pid().get() == pid && !target.process.has_exited())
    }

    /// Whether a process is this one or one that it has started, and does not descend from a target since.
    fn is_own(&self, pid: u32) -> bool {
        let own = std::process::id();
        let mut at = pid;
        for _ in 0..MAX_DEPTH {
            if at == own {
                return true;
            }
            match relatives::parent(at) {
                Some(parent) if parent > 1 && !self.is_traced(parent) => at = parent,
                _ => return false,
            }
        }
        false
    }

    /// Begins to trace a process; whether that succeeded.
    fn join(&mut self, pid: u32) -> bool {
        let process = match Process::open(pid) {
            Ok(process) => process,
            Err(error) => {
                tracing::debug!("not followed: {error}");
                if relatives::parent(pid).is_some() {
                    self.following.refused.insert(pid);
                }
                return false;
            }
        };
        if let Err(error) = self.give_place(process) {
            tracing::debug!("process {pid} is not followed: {error:#}");
            self.following.refused.insert(pid);
            self.inherits(None, pid);
            return false;
        }
        self.following.followed += 1;
        let attached = NonZeroU32::new(pid).map_or(Ok(0), |pid| self.attach_new(pid));
        match attached {
            Ok(allocators) => tracing::debug!("following process {pid}: {allocators} allocators"),
            // Reports say so, and attaching is retried.
            Err(error) => tracing::debug!("{error:#}"),
        }
        self.stay_detached();
        true
    }

    /// Makes a process a target: with an index of its own, or in place of one that has exited. One that had its pid goes
    /// first, since reports tell processes by their pids.
    fn give_place(&mut self, process: Process) -> anyhow::Result<()> {
        let pid = process.pid;
        let exit = process.exit()?;
        let is_full = self.targets.len() >= MAX_TARGETS as usize;
        let earlier = self.targets.iter().find(|target| target.pid() == pid).map(|target| target.index);
        if is_full || earlier.is_some() {
            self.retire();
        }
        let exited = &mut self.following.exited;
        let index = match exited.iter().position(|index| Some(*index) == earlier) {
            Some(place) => exited.remove(place),
            None if is_full || exited.len() > SHOWN_EXITED => exited.pop_front(),
            None => None,
        };
        match index {
            Some(index) => self.replace(index, process)?,
            None => self.add(process)?,
        }
        if let Some(target) = self.targets.iter_mut().rfind(|target| target.pid() == pid) {
            target.origin.followed = true;
        }
        if let Some(streams) = &mut self.streams {
            streams.watch_exit(Watched::new(exit)?);
        }
        Ok(())
    }

    /// Traces a process in place of one that has exited, which is forgotten.
    fn replace(&mut self, index: u32, process: Process) -> anyhow::Result<()> {
        let pid = process.pid;
        let mut target = Traced::new(process, index, self.options.placement.clone(), &self.files)?;
        let generation = self.tracer.replace_target(index, pid)?;
        target.generation = generation;
        target.origin.generation = generation;
        let id = target.id();
        if let Some(place) = self.targets.iter_mut().find(|target| target.index == index) {
            let mut before = std::mem::replace(place, target);
            self.past_cpu += before.cpu_time();
            let gone = before.pid().get();
            self.remark(|known| matches!(known, Remark::Exec { pid, .. } if *pid == gone), None);
        }
        self.following.forgotten += 1;
        self.forget_program(index, id);
        Ok(())
    }

    /// Detaches from processes that have exited: their pids may become those of others.
    fn retire(&mut self) {
        let Self { targets, following, .. } = self;
        let has_exited =
            |target: &&Traced| !following.exited.contains(&target.index) && target.process.has_exited();
        let gone: Vec<&Traced> = targets.iter().filter(has_exited).collect();
        let indices: Vec<u32> = gone.iter().map(|target| target.index).collect();
        // Those that were named, or started, stay.
        let followed: Vec<u32> =
            gone.iter().filter(|target| target.origin.followed).map(|target| target.index).collect();
        if !indices.is_empty() {
            self.tracer.forget_processes(&indices);
            self.following.exited.extend(followed);
        }
    }

    /// What the reader should know of processes that joined, and of those that they joined. `missed`: children that could
    /// not be traced.
    pub(super) fn remarks_on_followed(&self, missed: u64) -> impl Iterator<Item = Remark> {
        let Following { followed, forgotten, ref refused, .. } = self.following;
        let is_without = |target: &&Traced| target.allocators.is_empty();
        let without =
            |target: &&Traced| is_without(target) && target.origin.followed && !target.process.has_exited();
        let without_allocator = self.targets.iter().filter(without).count() as u64;
        let refused = refused.len() as u64;
        let remark = Remark::Followed { followed, exited: forgotten, refused, without_allocator };
        let first = self.targets.iter().filter(|target| !target.origin.followed).filter(is_without);
        let first = first.map(|target| Remark::NoAllocator { pid: target.pid().get() });
        let others = followed + missed;
        let pid = self.leaks.checked_at_exit().filter(|_| others > 0);
        let pid = pid.and_then(|index| self.targets.iter().find(|target| target.index == index));
        let alone = pid.map(|target| Remark::CheckedAlone { pid: target.pid().get(), others });
        (followed + refused > 0).then_some(remark).into_iter().chain(alone).chain(first)
    }

    /// Once, a while after all that was named or started has exited: that tracing goes on of what it left behind.
    fn announce_left(&mut self) {
        let is_first = |target: &&Traced| !target.origin.followed;
        let mut first = self.targets.iter().filter(is_first);
        if self.following.has_announced || !self.following.wanted || !first.all(|of| of.process.has_exited())
        {
            return;
        }
        let living = self.targets.iter().filter(|target| !target.process.has_exited());
        let living: Vec<_> =
            living.map(|target| (target.pid().get(), target.process.comm.as_str())).collect();
        if !living.is_empty() {
            self.following.has_announced = true;
            (self.progress)(&left_behind(&living));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Following, MAX_PENDING, Selector};

    #[test]
    fn forks_are_missed_unless_they_are_settled_or_wait() {
        let mut following = Following::new(true, Selector::default());
        following.add(7, true);
        following.add(8, false);
        following.settled = 3;
        // 10 forks: 3 traced, 1 waits; what was found in /proc is no fork that was reported.
        assert_eq!(following.missed(10), 6);
        assert_eq!(following.missed(2), 0);
    }

    #[test]
    fn what_waits_is_bounded_and_found_once() {
        let mut following = Following::new(true, Selector::default());
        for pid in 0..2 * MAX_PENDING as u32 {
            following.add(pid % 8000, false);
            following.add(pid % 8000, false);
        }
        assert_eq!(following.pending.len(), MAX_PENDING);
        let pids: std::collections::BTreeSet<u32> = following.pending.iter().map(|one| one.pid).collect();
        assert_eq!(pids.len(), MAX_PENDING);
    }
}
