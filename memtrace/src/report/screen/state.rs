//! What the user has chosen to see, and what keys do about it.

#[cfg(test)]
mod tests;

use super::{history::History, keys::Key};
use crate::profile::{Profile, Selection, Since, SortBy};

/// Rows that are shown at most, those that need scrolling included.
const ROWS: usize = 200;
/// Characters of a line that the user types.
const TYPED: usize = 256;
/// Orders, in the order of the key for them.
const ORDERS: [(SortBy, &str); 6] = [
    (SortBy::Verdict, "verdict"),
    (SortBy::Bytes, "bytes"),
    (SortBy::Blocks, "blocks"),
    (SortBy::Rate, "growth"),
    (SortBy::Age, "age"),
    (SortBy::Lost, "lost"),
];

/// What has to be done about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Nothing but drawing the screen again.
    Redraw,
    /// Draw a new report.
    Report,
    /// Mark this moment.
    Mark,
    /// Check for leaks as soon as possible.
    Scan,
    /// Write the report to this file.
    Save(String),
    /// End the session.
    Quit,
}

/// What a row is known by from report to report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RowKey {
    pub(super) is_mapping: bool,
    pub(super) id: u64,
    pub(super) pid: u32,
}

/// A line that the user types.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Input {
    /// The text that rows are to contain.
    Filter(String),
    /// The file to save to.
    Save(String),
}

/// What covers the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Page {
    /// Nothing does.
    #[default]
    Rows,
    /// The selected row, opened.
    Row(RowKey),
    /// What was lost, and notes.
    Notes,
    /// The keys.
    Help,
}

/// What the user has chosen to see.
#[derive(Clone, Debug, Default)]
pub struct State {
    pub(super) selection: Selection,
    pub(super) since: Since,
    pub(super) page: Page,
    /// The selected row; `None`: the first, whichever that is.
    pub(super) cursor: Option<RowKey>,
    /// The first line shown of a page, or the first row.
    pub(super) scroll: usize,
    pub(super) input: Option<Input>,
    /// What became of the last key.
    pub(super) message: Option<String>,
    pub(super) full_names: bool,
    pub(super) frozen: bool,
    /// Whether every target has exited.
    pub(super) ended: bool,
    pub(super) history: History,
    /// The rows of the last picture, in order, and how many of them there was room for.
    pub(super) rows: Vec<RowKey>,
    pub(super) room: usize,
    /// Lines of the page that there was no room for.
    pub(super) below: usize,
    /// The name that is proposed for a file.
    pub(super) file: String,
}

impl State {
    /// Rows in this order at first.
    #[must_use]
    pub fn new(sort: SortBy) -> Self {
        Self { selection: Selection { sort, top: ROWS, ..Selection::default() }, ..Self::default() }
    }

    /// The rows that reports are needed for.
    #[must_use]
    pub fn selection(&self) -> &Selection {
        &self.selection
    }

    /// Whether rows that are not shown need names too: a text is looked for in all of them.
    #[must_use]
    pub fn needs_names(&self) -> bool {
        self.selection.containing.is_some()
    }

    /// Which allocations are shown.
    #[must_use]
    pub fn since(&self) -> Since {
        self.since
    }

    /// Whether new reports are not to be shown.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.frozen
    }

    /// Notes whether every target has exited.
    pub fn note_end(&mut self, has_ended: bool) {
        self.ended = has_ended;
    }

    /// Notes the figures of a report that will be drawn.
    pub fn note(&mut self, profile: &Profile) {
        self.history.note(profile);
        if !matches!(self.input, Some(Input::Save(_))) {
            let pid =
                profile.processes().and_then(|of| of.processes.first()).map_or(0, |process| process.pid);
            self.file = format!("memtrace-{pid}-{}s.mt", profile.elapsed.as_secs());
        }
    }

    /// Says something until the next key.
    pub fn say(&mut self, what: String) {
        self.message = Some(what);
    }

    pub(super) fn order(&self) -> &'static str {
        ORDERS.iter().find(|(sort, _)| *sort == self.selection.sort).map_or("", |(_, name)| name)
    }

    /// What a key does.
    pub fn press(&mut self, key: Key) -> Request {
        self.message = None;
        if key == Key::Control('c') {
            return Request::Quit;
        }
        if let Some(input) = self.input.take() {
            return self.type_into(input, key);
        }
        match key {
            Key::Char('q') => return Request::Quit,
            Key::Up | Key::Char('k') => self.step(-1),
            Key::Down | Key::Char('j') => self.step(1),
            Key::PageUp => self.step(-(self.room.max(2) as isize - 1)),
            Key::PageDown => self.step(self.room.max(2) as isize - 1),
            Key::Home | Key::Char('g') => self.step(isize::MIN),
            Key::End | Key::Char('G') => self.step(isize::MAX),
            Key::Enter => self.open(),
            Key::Escape | Key::Backspace => return self.back(),
            Key::Char('?' | 'h') => self.turn_to(Page::Help),
            Key::Char('n') => self.turn_to(Page::Notes),
            Key::Char('f') => self.full_names = !self.full_names,
            Key::Char('/') => {
                self.input = Some(Input::Filter(self.selection.containing.clone().unwrap_or_default()));
            }
            Key::Char('w') => self.input = Some(Input::Save(self.file.clone())),
            Key::Char('s') => return self.sort(),
            Key::Char(' ') => return self.freeze(),
            Key::Char('m') => return self.mark(),
            Key::Char('t') => return self.other_span(),
            Key::Char('c') => {
                self.say("a leak check will begin as soon as possible".to_owned());
                return Request::Scan;
            }
            _ => {}
        }
        Request::Redraw
    }

    fn type_into(&mut self, input: Input, key: Key) -> Request {
        let (Input::Filter(mut text) | Input::Save(mut text), is_filter) = match input {
            Input::Filter(_) => (input, true),
            Input::Save(_) => (input, false),
        };
        match key {
            Key::Escape => return Request::Redraw,
            Key::Enter if is_filter => {
                self.selection.containing = Some(text).filter(|text| !text.is_empty());
                self.first_row();
                return self.shown_anew();
            }
            Key::Enter if text.is_empty() => return Request::Redraw,
            Key::Enter => return Request::Save(text),
            Key::Backspace => {
                text.pop();
            }
            Key::Control('u') => text.clear(),
            Key::Char(c) if text.chars().count() < TYPED => text.push(c),
            _ => {}
        }
        self.input = Some(if is_filter { Input::Filter(text) } else { Input::Save(text) });
        Request::Redraw
    }

    /// A new report, unless the screen is to stay as it is.
    fn shown_anew(&self) -> Request {
        if self.frozen { Request::Redraw } else { Request::Report }
    }

    fn first_row(&mut self) {
        (self.cursor, self.scroll, self.page) = (None, 0, Page::Rows);
    }

    fn turn_to(&mut self, page: Page) {
        self.page = if self.page == page { Page::Rows } else { page };
        self.scroll = 0;
    }

    fn open(&mut self) {
        self.scroll = 0;
        self.page = match (self.page, self.cursor.or_else(|| self.rows.first().copied())) {
            (Page::Rows, Some(row)) => {
                self.cursor = Some(row);
                Page::Row(row)
            }
            _ => Page::Rows,
        };
    }

    fn back(&mut self) -> Request {
        if self.page == Page::Rows && self.selection.containing.take().is_some() {
            self.first_row();
            return self.shown_anew();
        }
        (self.page, self.scroll) = (Page::Rows, 0);
        Request::Redraw
    }

    /// Moves the cursor, or scrolls a page.
    fn step(&mut self, by: isize) {
        if self.page != Page::Rows {
            let last = self.scroll.saturating_add(self.below);
            self.scroll = self.scroll.saturating_add_signed(by).min(last);
            return;
        }
        let at = self.place().unwrap_or(0).saturating_add_signed(by).min(self.rows.len().saturating_sub(1));
        self.cursor = self.rows.get(at).copied();
    }

    /// The place of the selected row among those of the last picture.
    pub(super) fn place(&self) -> Option<usize> {
        self.rows.iter().position(|row| Some(*row) == self.cursor)
    }

    fn sort(&mut self) -> Request {
        let at = ORDERS.iter().position(|(sort, _)| *sort == self.selection.sort).unwrap_or(0);
        let next = ORDERS.get(at + 1).or_else(|| ORDERS.first());
        self.selection.sort = next.map_or(SortBy::Verdict, |(sort, _)| *sort);
        self.first_row();
        self.shown_anew()
    }

    fn freeze(&mut self) -> Request {
        self.frozen = !self.frozen;
        // The picture that stays has all names.
        Request::Report
    }

    fn mark(&mut self) -> Request {
        if self.frozen {
            self.say("the screen is frozen: Space lets it go on".to_owned());
            return Request::Redraw;
        }
        self.show_since(Since::LastMark);
        Request::Mark
    }

    fn other_span(&mut self) -> Request {
        if self.frozen {
            self.say("the screen is frozen: Space lets it go on".to_owned());
            return Request::Redraw;
        }
        self.show_since(match self.since {
            Since::Start => Since::LastMark,
            Since::LastMark => Since::BetweenMarks,
            Since::BetweenMarks => Since::Start,
        });
        Request::Report
    }

    fn show_since(&mut self, since: Since) {
        self.since = since;
        self.history.restart_blocks();
        self.first_row();
    }
}
