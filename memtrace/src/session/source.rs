//! What the loop follows.

use super::{
    draft::{Draft, Wanted},
    names::Names,
};

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As many reports, or as much time, as asked for; or there is nothing more to report.
    Done,
    /// Every target has exited.
    Exited,
    /// By a signal.
    Interrupted,
    /// Tracing cost more than its budget allows, whatever was done about it.
    OverBudget,
}

/// What the loop is to do after a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Wait for the next one.
    Wait,
    /// Report at once.
    Report,
    /// End.
    End(Ending),
}

/// Where reports come from. It owns the descriptors that it waits for.
pub trait Source {
    /// Starts the clock of the reports: everything is in place. To be called once, first, in the runtime that will wait.
    ///
    /// # Errors
    /// The kernel side cannot be read, or a descriptor not be watched.
    fn begin(&mut self) -> anyhow::Result<()>;

    /// Waits until there is something for [`Source::step`] to do. `room`: whether there is room for more drafts. May be
    /// cancelled at any time, and called again.
    fn due(&mut self, room: bool) -> impl Future<Output = anyhow::Result<()>>;

    /// Does a part of what is due, in 100 ms or so. What is to be written, lines of a trace, is added to `drafts`.
    ///
    /// # Errors
    /// The source cannot go on.
    fn step(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<Step>;

    /// Takes in a part of what has happened, so that a report can show it. Whether that was all.
    ///
    /// # Errors
    /// The source cannot go on.
    fn take(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<bool>;

    /// Whether nothing more will happen: every target has exited.
    fn has_ended(&self) -> bool;

    /// Everything that one report knows; its functions need not have names yet.
    ///
    /// # Errors
    /// The table of live blocks cannot be read.
    fn report(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Draft>;

    /// The stacks of its reports, and their names.
    fn names(&mut self) -> &mut Names;
}
