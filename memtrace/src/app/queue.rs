//! What waits for the names of its functions before it is written, in order.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{draft::Draft, followed::Followed, output::Output};

/// How long something waits at most. Then it is written without the names that are missing.
const PATIENCE: Duration = Duration::from_secs(10);

/// Drafts that wait at most: more events stay in the kernel's buffer.
const MOST: usize = 1 << 16;

struct Waiting {
    draft: Draft,
    deadline: Instant,
}

/// Drafts in the order in which they are to be written.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    reports: usize,
}

impl Queue {
    /// Takes a draft in, and writes it if it has its names and is the first.
    pub(super) fn push(
        &mut self,
        draft: Draft,
        session: &mut impl Followed,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let waits = session.symbolizer().is_some_and(|symbolizer| draft.ask(symbolizer));
        if self.waiting.is_empty() && !waits {
            return write(draft, session, output);
        }
        let patience = if waits { PATIENCE } else { Duration::ZERO };
        self.reports += usize::from(draft.is_report());
        self.waiting.push_back(Waiting { draft, deadline: Instant::now() + patience });
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST
    }

    /// Whether a report waits.
    pub(super) fn has_report(&self) -> bool {
        self.reports > 0
    }

    /// Waits until there may be something to write; forever, if nothing waits.
    pub(super) async fn changed(&self, session: &mut impl Followed) {
        let Some(first) = self.waiting.front() else { return std::future::pending().await };
        let answered = async {
            match session.symbolizer() {
                Some(symbolizer) => symbolizer.answered().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = answered => {}
            () = sleep_until(first.deadline) => {}
        }
    }

    /// Writes what has its names, or has waited for long enough.
    pub(super) fn write(&mut self, session: &mut impl Followed, output: &mut Output) -> anyhow::Result<()> {
        let is_settled = session.symbolizer().is_none_or(|symbolizer| {
            symbolizer.catch_up();
            symbolizer.asked() == 0
        });
        let now = Instant::now();
        let mut has_written = false;
        while let Some(first) = self.waiting.pop_front_if(|first| is_settled || first.deadline <= now) {
            self.reports -= usize::from(first.draft.is_report());
            write(first.draft, session, output)?;
            has_written = true;
        }
        // Of a trace nothing else may come for long.
        if has_written { output.flush() } else { Ok(()) }
    }

    /// Writes everything with the names that are known.
    pub(super) fn flush(&mut self, session: &mut impl Followed, output: &mut Output) -> anyhow::Result<()> {
        let now = Instant::now();
        self.waiting.iter_mut().for_each(|waiting| waiting.deadline = now);
        self.write(session, output)
    }
}

fn write(draft: Draft, session: &mut impl Followed, output: &mut Output) -> anyhow::Result<()> {
    let is_report = draft.is_report();
    let event = match session.symbolizer() {
        Some(symbolizer) => draft.named(symbolizer),
        None => draft.bare(),
    };
    output.write(&event)?;
    if is_report { output.flush() } else { Ok(()) }
}
