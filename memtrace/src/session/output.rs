//! Where reports go.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;

use super::{
    draft::{Content, Wanted},
    suppress::Suppressing,
};
use crate::{
    profile::{Dictionary, Saved, Selection, VERSION, View},
    report::Reporter,
    saved::Writer,
};

/// The reader of the output has exited (`| head`): the session ends without an error.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has exited")]
pub struct Closed;

/// A reporter, what it writes to, and which rows it shows.
pub struct Output {
    reporter: Box<dyn Reporter>,
    writer: BufWriter<Box<dyn Write>>,
    selection: Selection,
    saved: Option<Writer>,
    suppressing: Suppressing,
    /// The last report so far, if only that is written, at the end.
    last: Option<Vec<u8>>,
}

impl Output {
    /// Writes reports in the reporter's format to a writer.
    #[must_use]
    pub fn new(reporter: Box<dyn Reporter>, writer: Box<dyn Write>, selection: Selection) -> Self {
        Self {
            reporter,
            writer: BufWriter::with_capacity(1 << 16, writer),
            selection,
            saved: None,
            suppressing: Suppressing::default(),
            last: None,
        }
    }

    /// Writes only the last report, when the session ends: for formats whose reports cannot follow each other.
    #[must_use]
    pub fn only_last(self) -> Self {
        Self { last: Some(Vec::new()), ..self }
    }

    /// Saves each report to a file as well.
    ///
    /// # Errors
    /// No file can be created there, or the existing one must not be replaced.
    pub fn saved_to(self, path: &Path) -> anyhow::Result<Self> {
        Ok(Self { saved: Some(Writer::create(path, VERSION).context("--save")?), ..self })
    }

    /// Leaves out of each report what is suppressed.
    #[must_use]
    pub fn without(self, suppressing: Suppressing) -> Self {
        Self { suppressing, ..self }
    }

    /// What became of what was lost.
    #[must_use]
    pub fn suppressing(&self) -> &Suppressing {
        &self.suppressing
    }

    /// What the output needs of a report.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        Wanted {
            selection: &self.selection,
            everything: self.saved.is_some() || self.suppressing.needs_names(),
        }
    }

    /// Writes one report or line completely.
    ///
    /// # Errors
    /// [`Closed`] for a closed pipe; otherwise the writer's error, such as a full disk.
    pub(super) fn write(&mut self, dictionary: &mut Dictionary, content: &Content) -> anyhow::Result<()> {
        let written = match content {
            Content::Report(profile) => {
                let profile = &self.suppressing.apply(dictionary, profile);
                if let Some(saved) = &mut self.saved {
                    let gained = dictionary.delta();
                    saved.append(&Saved { gained, profile: &**profile }).context("cannot save the report")?;
                }
                let prepared = self.selection.prepared(dictionary, profile);
                let view = View::new(dictionary, &prepared, &self.selection);
                match &mut self.last {
                    Some(last) => {
                        last.clear();
                        self.reporter.report(last, &view)
                    }
                    None => self.reporter.report(&mut self.writer, &view),
                }
            }
            Content::Allocation(event) => self.reporter.allocation(&mut self.writer, dictionary, event),
        };
        settle(written)
    }

    /// Writes a line that is not an event, and flushes.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        settle(writeln!(self.writer, "{line}"))?;
        self.flush()
    }

    /// Writes what waits for the end of the session.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        let Some(last) = self.last.take() else { return Ok(()) };
        settle(self.writer.write_all(&last))?;
        self.flush()
    }

    /// Flushes the buffer: after each report, and when no more events are pending.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        let flushed = self.writer.flush();
        settle(flushed)
    }
}

/// Writes a text that is not a session's report.
///
/// # Errors
/// [`Closed`] for a closed pipe; otherwise the writer's error.
pub fn write_whole(mut out: impl Write, text: &str) -> anyhow::Result<()> {
    settle(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// What became of writing to the user.
///
/// # Errors
/// [`Closed`] for a closed pipe; otherwise the writer's error.
pub fn settle(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write the report")),
    }
}
