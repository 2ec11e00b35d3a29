//! What the loop of a session asks of it.

use std::time::Duration;

use anyhow::Context as _;

use super::{control::Next, draft::Draft, session::Session};
use crate::{
    bpf::{Events, KernelEvent, KernelLog, MAX_AGE},
    symbolize::Symbolizer,
    target::Exit,
};

/// What can be followed: a session of processes, or of the kernel.
pub trait Followed {
    /// Starts the clock of the reports: everything is in place.
    ///
    /// # Errors
    /// The kernel side cannot be read.
    fn begin(&mut self) -> anyhow::Result<()>;

    /// Whether there is a budget that asks for looks between reports.
    fn is_controlled(&self) -> bool {
        false
    }

    /// Looks at what tracing costs, and does what the budget says.
    fn control(&mut self) -> Next {
        Next::Look(Duration::MAX)
    }

    /// Looks whether everything is still in place. To be called every second; nothing by default.
    fn watch(&mut self) {}

    /// The streams of events and of kernel messages. To be taken once.
    ///
    /// # Errors
    /// Taken before.
    fn streams(&mut self) -> anyhow::Result<(Events, Option<KernelLog>)>;

    /// What ends the session with the last of them; none if it does not end by itself.
    ///
    /// # Errors
    /// A process cannot be watched.
    fn exits(&self) -> anyhow::Result<Vec<Exit>>;

    /// Takes an event in; returns what is to be written at once (`--trace`).
    fn take(&mut self, event: KernelEvent) -> Option<Draft>;

    /// Everything one report shows; its functions need not have names yet.
    ///
    /// # Errors
    /// The table of live blocks cannot be read.
    fn snapshot(&mut self, last: bool) -> anyhow::Result<Draft>;

    /// What gives them names; `None` where they have them.
    fn symbolizer(&mut self) -> Option<&mut Symbolizer> {
        None
    }
}

/// What reports say of processes that are not there any more.
pub(super) fn exited(pids: &[u32]) -> Option<String> {
    let (noun, have) = if pids.len() == 1 { ("process", "has") } else { ("processes", "have") };
    let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
    (!pids.is_empty()).then(|| {
        format!(
            "{noun} {} {have} exited: what was allocated and not freed by then is still shown",
            pids.join(", ")
        )
    })
}

/// What reports say of ages, once tracing has gone on for longer than they reach.
pub(super) fn ages(elapsed: Duration) -> Option<String> {
    (elapsed > MAX_AGE).then(|| {
        let days = MAX_AGE.as_secs() / 86_400;
        format!(
            "tracing goes on for over {days} days: what is older than that is shown as {days} days younger"
        )
    })
}

impl Followed for Session {
    fn begin(&mut self) -> anyhow::Result<()> {
        Session::begin(self);
        Ok(())
    }

    fn is_controlled(&self) -> bool {
        Session::is_controlled(self)
    }

    fn control(&mut self) -> Next {
        Session::control(self)
    }

    fn watch(&mut self) {
        Session::watch(self);
    }

    fn streams(&mut self) -> anyhow::Result<(Events, Option<KernelLog>)> {
        Session::streams(self)
    }

    fn exits(&self) -> anyhow::Result<Vec<Exit>> {
        self.processes().map(|process| process.exit().context("cannot watch the target")).collect()
    }

    fn take(&mut self, event: KernelEvent) -> Option<Draft> {
        Session::take(self, event)
    }

    fn snapshot(&mut self, last: bool) -> anyhow::Result<Draft> {
        Session::snapshot(self, last)
    }

    fn symbolizer(&mut self) -> Option<&mut Symbolizer> {
        Some(&mut self.symbolizer)
    }
}
