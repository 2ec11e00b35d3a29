//! Where reports go.

use std::io::{self, BufWriter, Write};

use crate::{model::Event, report::Reporter};

/// The reader of the output has gone (`| head`): a reason to end, not an error.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has gone")]
pub struct Closed;

/// A reporter and what it writes to.
pub struct Output {
    reporter: Box<dyn Reporter>,
    writer: BufWriter<Box<dyn Write>>,
}

impl Output {
    /// Reports in the reporter's format to a writer.
    #[must_use]
    pub fn new(reporter: Box<dyn Reporter>, writer: Box<dyn Write>) -> Self {
        Self { reporter, writer: BufWriter::with_capacity(1 << 16, writer) }
    }

    /// Writes one event, whole.
    ///
    /// # Errors
    /// [`Closed`] for a closed pipe; otherwise what the writer says, a full disk for example.
    pub fn write(&mut self, event: &Event) -> anyhow::Result<()> {
        let written = self.reporter.write(&mut self.writer, event);
        settle(written)
    }

    /// Writes a line that is no event, at once.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        settle(writeln!(self.writer, "{line}"))?;
        self.flush()
    }

    /// Writes out what is buffered: after each report, and when there is nothing more to trace for now.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn flush(&mut self) -> anyhow::Result<()> {
        let flushed = self.writer.flush();
        settle(flushed)
    }
}

/// Writes a text that is no report of a session.
///
/// # Errors
/// As [`Output::write`].
pub fn write_whole(mut out: impl Write, text: &str) -> anyhow::Result<()> {
    settle(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

fn settle(result: io::Result<()>) -> anyhow::Result<()> {
    match result {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write the report")),
    }
}
