//! What the loop follows.

use std::time::Duration;

use super::{
    draft::{Draft, Wanted},
    names::Names,
};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The requested number of reports or the requested time is over, or there is nothing more to report.
    Done,
    /// Every target has exited.
    Exited,
    /// By a signal.
    Interrupted,
    /// Tracing costs more than its budget in every mode.
    OverBudget,
}

/// What the loop does after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for the next one.
    Wait,
    /// Report immediately.
    Report,
    /// End.
    End(Ending),
}

/// Where reports come from. It owns the descriptors that it waits for.
pub trait Source {
    /// Starts the clock of the reports. Called once, before anything else, in the runtime that will wait.
    ///
    /// # Errors
    /// The kernel side cannot be read, or a descriptor cannot be watched.
    fn begin(&mut self) -> anyhow::Result<()>;

    /// Waits until [`Source::step`] has something to do. `room`: whether there is room for more drafts. May be
    /// cancelled at any time, and called again.
    fn due(&mut self, room: bool) -> impl Future<Output = anyhow::Result<()>>;

    /// Does part of what is due, in about 100 ms. Trace lines to write are added to `drafts`.
    ///
    /// # Errors
    /// The source cannot continue.
    fn step(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<Step>;

    /// Processes part of what has happened, so that a report can show it. Returns whether that was all.
    ///
    /// # Errors
    /// The source cannot continue.
    fn take(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<bool>;

    /// memtrace is to end (SIGTERM): a command that it started, too.
    fn terminate(&mut self) {}

    /// Whether it has something to do when a signal is about to end the session: a command that got the same signal is
    /// checked for leaks at its end.
    fn outlasts(&self) -> bool {
        false
    }

    /// Whether that is under way.
    fn is_ending(&self) -> bool {
        false
    }

    /// Whether every target has exited, so that nothing more will happen.
    fn has_ended(&self) -> bool;

    /// Everything that one report knows; its functions need not have names yet.
    ///
    /// # Errors
    /// The table of live blocks cannot be read.
    fn report(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Draft>;

    /// Marks a moment: so long before now. Sources without a clock have none.
    fn mark(&mut self, _ago: Duration) {}

    /// Checks for leaks as soon as possible, where it does that at all.
    fn scan(&mut self) {}

    /// The stacks of its reports, and their names.
    fn names(&mut self) -> &mut Names;
}
