//! What a keeper and the rest of the agent tell each other.

use std::{
    process::ExitStatus,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::model::ThreadRegisters;

/// What is known of a command.
#[derive(Debug, Default)]
struct State {
    /// How it ended.
    status: Option<ExitStatus>,
    /// Whether it is to be held at its end.
    is_wanted: bool,
    /// Its threads, while it is held.
    held: Option<Vec<ThreadRegisters>>,
}

/// The same for both sides.
#[derive(Debug, Default)]
pub(super) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets whether the command is to be held at its end.
    pub(super) fn want(&self, is_wanted: bool) {
        self.lock().is_wanted = is_wanted;
        self.changed.notify_all();
    }

    /// Whether the command is to be held at its end.
    pub(super) fn is_wanted(&self) -> bool {
        self.lock().is_wanted
    }

    /// Waits up to `limit` until the command is to be held no longer. Returns whether it still is.
    pub(super) fn is_wanted_after(&self, limit: Duration) -> bool {
        let wait = self.changed.wait_timeout_while(self.lock(), limit, |state| state.is_wanted);
        wait.unwrap_or_else(PoisonError::into_inner).0.is_wanted
    }

    /// Sets the threads of the command that is held, or that it is held no longer.
    pub(super) fn set_held(&self, threads: Option<Vec<ThreadRegisters>>) {
        self.lock().held = threads;
    }

    /// The threads of the command, while it is held.
    pub(super) fn held(&self) -> Option<Vec<ThreadRegisters>> {
        self.lock().held.clone()
    }

    /// Sets how the command ended. The first time counts.
    pub(super) fn end(&self, status: ExitStatus) {
        let mut state = self.lock();
        state.status.get_or_insert(status);
        (state.held, state.is_wanted) = (None, false);
        drop(state);
        self.changed.notify_all();
    }

    /// How the command ended.
    pub(super) fn status(&self) -> Option<ExitStatus> {
        self.lock().status
    }

    /// Waits for the command's end.
    pub(super) fn wait(&self) -> ExitStatus {
        let mut state = self.lock();
        loop {
            if let Some(status) = state.status {
                return status;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
