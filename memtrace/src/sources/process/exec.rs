//! What a session does when a target calls `execve`.

use std::time::{Duration, Instant};

use super::{session::Session, traced::Traced};
use crate::profile::Remark;

/// Looks at a program that begins, 5 ms apart, until its C library is there. If it takes longer, reports look.
pub(super) const LOADING: u32 = 10;
/// The time between two of them.
pub(super) const PAUSE: Duration = Duration::from_millis(5);
/// The time between two passes over the table of blocks for what earlier programs left.
const FORGETTING: Duration = Duration::from_secs(1);

impl Session {
    /// Takes note of `execve`s whose events were lost.
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

    /// Makes the places free that programs before an `execve` left taken. That passes over the whole table of blocks: once a
    /// second at most, however often a program calls it.
    fn forget_past(&mut self) {
        let Self { targets, tracer, .. } = self;
        for target in targets.iter_mut().filter(|target| target.forgotten.0 < target.generation) {
            if target.forgotten.1.is_some_and(|last| last.elapsed() < FORGETTING) {
                continue;
            }
            target.forgotten = (target.generation, Some(Instant::now()));
            if let Err(error) = tracer.forget_past(target.index) {
                tracing::debug!("programs before that of process {} take up places: {error}", target.pid());
            }
        }
    }

    /// Tries again to attach what was refused. Where probes come and go, the next window does.
    fn try_again(&mut self) {
        if self.control.in_windows() {
            return;
        }
        for target in self.targets.iter_mut().filter(|target| !target.process.has_exited()) {
            target.attach_refused(&mut self.tracer);
        }
    }

    /// Looks for the allocators of targets that have none: after an `execve` by a thread nobody tells when libraries are
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
        // Where a program calls it faster than probes can be attached, what is past is passed over.
        let current = self.tracer.generation(index);
        let (by_thread, generation) = (by_thread && current <= generation, generation.max(current));
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return };
        if generation <= target.generation {
            return;
        }
        target.exec(generation, by_thread, &mut self.tracer);
        let id = target.id();
        self.ranges.remove(&index);
        self.stacks.forget_past(&mut self.names, id);
        self.forget_past();
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
            // Reports say so, and try again.
            tracing::debug!("process {}: {error:#}", target.pid());
        }
        let (pid, comm) = (target.pid().get(), target.process.comm.clone());
        let at = self.tracer.elapsed().saturating_sub(self.started);
        let remark = Remark::Exec { pid, comm, times: generation, at, by_thread };
        self.remark(|known| matches!(known, Remark::Exec { pid: of, .. } if *of == pid), Some(remark));
        self.stay_detached();
    }
}
