//! Where reports go.

use std::{
    io::{self, BufWriter, Write},
    path::Path,
};

use anyhow::Context as _;

use super::{
    draft::{Content, Draft, Wanted},
    names::Names,
    screen::Screen,
    suppress::Suppressing,
};
use crate::{
    profile::{Dictionary, Profile, Saved, Selection, Since, VERSION, View},
    report::{Reporter, screen::Request},
    saved::Writer,
};

/// The reader of the output has exited (`| head`): the session ends without an error.
#[derive(Debug, thiserror::Error)]
#[error("the reader of the output has exited")]
pub struct Closed;

/// Where reports go, which of their rows are shown, and where they are saved besides.
pub struct Output {
    to: Sink,
    selection: Selection,
    saved: Option<Writer>,
    suppressing: Suppressing,
    since: Since,
    /// Why not all reports were saved.
    unsaved: Option<anyhow::Error>,
}

enum Sink {
    /// A reporter, what it writes to, and the last report so far if only that is written, at the end.
    Stream(Box<dyn Reporter>, BufWriter<Box<dyn Write>>, Option<Vec<u8>>),
    /// A live screen.
    Screen(Box<Screen>),
}

impl Output {
    /// Writes reports in the reporter's format to a writer.
    #[must_use]
    pub fn new(reporter: Box<dyn Reporter>, writer: Box<dyn Write>, selection: Selection) -> Self {
        let writer = BufWriter::with_capacity(1 << 16, writer);
        Self::to(Sink::Stream(reporter, writer, None), selection)
    }

    /// Shows reports on a live screen, which selects what it shows.
    #[must_use]
    pub fn on(screen: Screen) -> Self {
        Self::to(Sink::Screen(Box::new(screen)), Selection::default())
    }

    fn to(to: Sink, selection: Selection) -> Self {
        Self {
            to,
            selection,
            saved: None,
            suppressing: Suppressing::default(),
            since: Since::default(),
            unsaved: None,
        }
    }

    /// Writes only the last report, when the session ends: for formats whose reports cannot follow each other.
    #[must_use]
    pub fn only_last(mut self) -> Self {
        if let Sink::Stream(_, _, last) = &mut self.to {
            *last = Some(Vec::new());
        }
        self
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

    /// Limits each report to some of the allocations.
    #[must_use]
    pub fn limited_to(self, since: Since) -> Self {
        // What was allocated between two marks, and never again, is what they were made for.
        let hide_settled = self.selection.hide_settled && since == Since::Start;
        Self { since, selection: Selection { hide_settled, ..self.selection }, ..self }
    }

    /// What became of what was lost.
    #[must_use]
    pub fn suppressing(&self) -> &Suppressing {
        &self.suppressing
    }

    /// What the output needs of a report.
    #[must_use]
    pub fn wanted(&self) -> Wanted<'_> {
        match &self.to {
            Sink::Screen(screen) => screen.wanted(),
            Sink::Stream(reporter, ..) => Wanted {
                selection: &self.selection,
                everything: self.saved.is_some() || self.suppressing.needs_names(),
                curves: reporter.has_curves(),
                since: self.since,
                often: false,
            },
        }
    }

    /// Whether it is a live screen: a picture does not wait for names, the next one has them.
    pub(super) fn is_screen(&self) -> bool {
        matches!(self.to, Sink::Screen(_))
    }

    /// The session begins.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        match &mut self.to {
            Sink::Screen(screen) => screen.begin(),
            Sink::Stream(..) => Ok(()),
        }
    }

    /// Waits until the user asks for something; forever where nobody can.
    pub(super) async fn request(&mut self) -> anyhow::Result<Request> {
        match &mut self.to {
            Sink::Screen(screen) => screen.request().await,
            Sink::Stream(..) => std::future::pending().await,
        }
    }

    /// Tells a screen whether every target has exited.
    pub(super) fn note_end(&mut self, has_ended: bool) {
        if let Sink::Screen(screen) = &mut self.to {
            screen.note_end(has_ended);
        }
    }

    /// Draws a screen again.
    pub(super) fn redraw(&mut self, names: &mut Names) -> anyhow::Result<()> {
        match &mut self.to {
            Sink::Screen(screen) => screen.redraw(names),
            Sink::Stream(..) => Ok(()),
        }
    }

    /// Saves what a screen shows. Returns whether it needs a report for that.
    pub(super) fn save(&mut self, path: String, dictionary: &Dictionary) -> bool {
        match &mut self.to {
            Sink::Screen(screen) => screen.save(path, dictionary),
            Sink::Stream(..) => false,
        }
    }

    /// Writes one report or line completely. Returns what is not needed any more.
    ///
    /// # Errors
    /// [`Closed`] for a closed pipe; otherwise the writer's error, such as a full disk.
    pub(super) fn write(&mut self, names: &mut Names, draft: Draft) -> anyhow::Result<Option<Draft>> {
        let (reporter, writer, last) = match &mut self.to {
            Sink::Screen(screen) => return screen.show(draft, names),
            Sink::Stream(reporter, writer, last) => (reporter, writer, last),
        };
        let dictionary = names.dictionary_mut();
        let written = match draft.content() {
            Content::Report(profile) => {
                let profile = &self.suppressing.apply(dictionary, profile);
                if let Some(saved) = &mut self.saved {
                    let gained = dictionary.delta();
                    let saved = saved.append(&Saved { gained, profile: &**profile });
                    if let Err(error) = saved.context("cannot save the report") {
                        // Those that follow need what it says.
                        tracing::warn!("{error:#}: neither this one nor those that follow are saved");
                        self.saved = None;
                        self.unsaved = Some(error);
                    }
                }
                let prepared = self.selection.prepared(dictionary, profile);
                let view = View::new(dictionary, &prepared, &self.selection);
                match last {
                    Some(last) => {
                        last.clear();
                        reporter.report(last, &view)
                    }
                    None => reporter.report(writer, &view),
                }
            }
            Content::Allocation(event) => reporter.allocation(writer, dictionary, event),
        };
        settle(written)?;
        Ok(Some(draft))
    }

    /// Writes a report that no session makes, and flushes.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn report(&mut self, names: &mut Names, profile: Profile) -> anyhow::Result<()> {
        let draft = Draft::report(profile, names, self.wanted());
        self.write(names, draft)?;
        self.flush()
    }

    /// Writes a line that is not an event, and flushes.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub fn say(&mut self, line: &str) -> anyhow::Result<()> {
        if let Sink::Stream(_, writer, _) = &mut self.to {
            settle(writeln!(writer, "{line}"))?;
        }
        self.flush()
    }

    /// Writes what waits for the end of the session, and leaves a screen.
    ///
    /// # Errors
    /// As [`Output::write`], or a report could not be saved.
    pub fn finish(&mut self) -> anyhow::Result<()> {
        match &mut self.to {
            Sink::Screen(screen) => screen.finish(),
            Sink::Stream(_, writer, last) => {
                if let Some(last) = last.take() {
                    settle(writer.write_all(&last))?;
                }
            }
        }
        self.flush()?;
        self.unsaved.take().map_or(Ok(()), Err)
    }

    /// Flushes the buffer: after each report, and when no more events are pending.
    ///
    /// # Errors
    /// As [`Output::write`].
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        match &mut self.to {
            Sink::Stream(_, writer, _) => settle(writer.flush()),
            Sink::Screen(_) => Ok(()),
        }
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
