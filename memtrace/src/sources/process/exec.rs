//! What a session does when a target calls `execve`.

use std::time::{Duration, Instant};

use super::{session::Session, traced::Traced};
use crate::profile::Remark;

/// Checks of a new program for its C library, 5 ms apart. If it takes longer, reports check.
pub(super) const LOADING: u32 = 10;
/// How long a program with a dynamic loader may take until it has a C library, when it is attached to: on a machine under load,
/// it may have called `execve` a while ago.
pub(super) const LOADING_LONG: Duration = Duration::from_secs(3);
/// The time between two checks.
pub(super) const PAUSE: Duration = Duration::from_millis(5);
/// The time between two passes that clear blocks of earlier programs from the table.
const FORGETTING: Duration = Duration::from_secs(1);

impl Traced {
    /// Whether it has exited, or is about to: its memory goes first.
    pub(super) fn is_without_memory(&self) -> bool {
        self.process.has_exited() || self.modules.mapped().next().is_none()
    }

    /// Whether its libraries may still have to come.
    pub(super) fn is_loading(&self) -> bool {
        self.allocators.is_empty() && !self.is_without_memory() && self.modules.loader_hook().is_some()
    }
}

impl Session {
    /// Handles `execve`s whose events were lost.
    pub(super) fn catch_up(&mut self) {
        let late: Vec<_> = self
            .targets
            .iter()
            .map(|target| (target.index, self.tracer.generation(target.index), target.generation))
            .filter(|(_, now, known)| now > known)
            .collect();
        for (index, generation, _) in late {
            self.take_exec(index, generation, false);
        }
        self.look_again();
        self.try_again();
        self.note_renewals();
        self.forget_past();
    }

    /// Clears the blocks of programs before an `execve`. That scans the whole table of blocks, so it happens once a
    /// second at most, however often the program calls `execve`.
    fn forget_past(&mut self) {
        let Self { targets, tracer, .. } = self;
        for target in targets.iter_mut().filter(|target| target.forgotten.0 < target.generation) {
            if target.forgotten.1.is_some_and(|last| last.elapsed() < FORGETTING) {
                continue;
            }
            target.forgotten = (target.generation, Some(Instant::now()));
            if let Err(error) = tracer.forget_past(target.index) {
                tracing::debug!(
                    "blocks of earlier programs of process {} remain in the table: {error}",
                    target.pid()
                );
            }
        }
    }

    /// Retries refused attaches. In window mode the next window does that.
    fn try_again(&mut self) {
        if self.control.in_windows() {
            return;
        }
        for target in self.targets.iter_mut().filter(|target| !target.process.has_exited()) {
            target.attach_refused(&mut self.tracer);
        }
    }

    /// Looks for allocators of targets that have none: after an `execve` by a thread, nothing announces that libraries are
    /// loaded.
    fn look_again(&mut self) {
        let without = |target: &&Traced| target.allocators.is_empty() && !target.process.has_exited();
        let indices: Vec<u32> = self.targets.iter().filter(without).map(|target| target.index).collect();
        for index in indices {
            self.refresh(index, false);
            self.attach_loaded(index);
        }
    }

    pub(super) fn take_exec(&mut self, index: u32, generation: u32, by_thread: bool) {
        // If a program calls it faster than probes can be attached, past programs are skipped.
        let current = self.tracer.generation(index);
        let (by_thread, generation) = (by_thread && current <= generation, generation.max(current));
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        if generation <= target.generation {
            return;
        }
        target.exec(generation, by_thread, &mut self.tracer);
        let id = target.id();
        self.forget_program(index, id);
        self.refresh(index, false);
        for _ in 0..if by_thread { LOADING } else { 0 } {
            self.look_again();
            if self.targets.iter().any(|target| target.index == index && !target.allocators.is_empty()) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        if let Err(error) = target.attach(&mut self.tracer) {
            // Reports say so, and attaching is retried.
            tracing::debug!("process {}: {error:#}", target.pid());
        }
        let (pid, comm) = (target.pid().get(), target.process.comm.clone());
        let at = self.tracer.elapsed().saturating_sub(self.started);
        let times = generation - target.origin.generation;
        // A process that was followed begins with one.
        if !(target.origin.followed && times == 1 && !by_thread) {
            let remark = Remark::Exec { pid, comm, times, at, by_thread };
            self.remark(|known| matches!(known, Remark::Exec { pid: of, .. } if *of == pid), Some(remark));
        }
        self.stay_detached();
    }

    /// Forgets what is known of the programs before that of `id`: index and generation.
    pub(super) fn forget_program(&mut self, index: u32, id: u32) {
        self.ranges.remove(&index);
        self.leaks.forget(index);
        self.ledgers.forget(index);
        self.stacks.forget_past(&mut self.names, id);
        let stacks = &self.stacks;
        let known: Vec<u32> = self.targets.iter().map(Traced::id).collect();
        self.course.forget(|slot| stacks.get(slot).is_none(), &known);
        self.forget_past();
    }
}
