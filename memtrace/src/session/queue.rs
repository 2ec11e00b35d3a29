//! Drafts that wait for the names of their functions, in the order in which they are written.

use std::{collections::VecDeque, time::Duration};

use tokio::time::{Instant, sleep_until};

use super::{draft::Draft, names::Names, output::Output};

/// The longest wait. Then a draft is written without the missing names.
const PATIENCE: Duration = Duration::from_secs(10);

/// The same for a screen: the next picture has the names.
const GLANCE: Duration = Duration::from_millis(300);

/// The most drafts that wait: further events stay in the kernel's buffer.
const MOST: usize = 1 << 16;

struct Waiting {
    draft: Draft,
    deadline: Instant,
}

/// Drafts in the order in which they will be written.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<Waiting>,
    reports: usize,
}

impl Queue {
    /// Adds a draft, and writes it if it has its names and is the first.
    pub(super) fn push(
        &mut self,
        draft: Draft,
        names: &mut Names,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let waits = draft.ask(names);
        if self.waiting.is_empty() && !waits {
            return write(draft, names, output);
        }
        let patience = if !waits {
            Duration::ZERO
        } else if output.is_screen() {
            GLANCE
        } else {
            PATIENCE
        };
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

    /// Waits until the first has waited long enough; forever if none waits.
    pub(super) async fn expired(&self) {
        match self.waiting.front() {
            Some(first) => sleep_until(first.deadline).await,
            None => std::future::pending().await,
        }
    }

    /// Writes what has its names or has waited long enough.
    pub(super) fn write(&mut self, names: &mut Names, output: &mut Output) -> anyhow::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let is_settled = names.is_settled();
        let now = Instant::now();
        let mut has_written = false;
        while let Some(first) = self.waiting.pop_front_if(|first| is_settled || first.deadline <= now) {
            self.reports -= usize::from(first.draft.is_report());
            write(first.draft, names, output)?;
            has_written = true;
        }
        // After a trace line, nothing else may arrive for a long time.
        if has_written { output.flush() } else { Ok(()) }
    }

    /// Writes everything with the names that are known.
    pub(super) fn flush(&mut self, names: &mut Names, output: &mut Output) -> anyhow::Result<()> {
        let now = Instant::now();
        self.waiting.iter_mut().for_each(|waiting| waiting.deadline = now);
        self.write(names, output)
    }
}

fn write(mut draft: Draft, names: &mut Names, output: &mut Output) -> anyhow::Result<()> {
    let is_report = draft.is_report();
    draft.named(names, !output.is_screen());
    if let Some(past) = output.write(names, draft)? {
        past.release(names);
    }
    if is_report { output.flush() } else { Ok(()) }
}
