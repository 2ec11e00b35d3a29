//! A live screen as a place where reports go, which asks for things in turn.

mod terminal;

use std::{
    collections::VecDeque,
    fs::File,
    io::{BufWriter, Read as _, Write as _},
    path::Path,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::terminal::{HeldErrors, RawTerminal};
use super::{
    draft::{Content, Draft, Wanted},
    names::Names,
    output::settle,
    report_file::{Keep, ReportFile},
    signals::ignore_stopping,
    watched::Watched,
};
use crate::{
    profile::{Delta, Dictionary, Profile, Saved, Selection, SortBy, VERSION, View},
    report::{
        Reporter as _, Style, Text,
        screen::{self, Key, Request},
    },
    saved::Writer,
};

/// Bytes of keys taken at once.
const KEYS: usize = 256;

/// A live screen. It appears when the session is followed.
pub struct Screen {
    state: screen::State,
    /// The report that is shown. It keeps its stacks.
    shown: Option<Draft>,
    /// Whether the next report is shown though the screen is frozen: it is the one that stays.
    is_last: bool,
    /// Where the next report is to be saved.
    save_to: Option<String>,
    pressed: VecDeque<Key>,
    live: Option<Live>,
}

/// What exists while the screen is there. Fields are dropped in this order.
struct Live {
    screen: screen::Screen<BufWriter<File>>,
    keys: Watched<File>,
    resized: Signal,
    _errors: Option<HeldErrors>,
    _terminal: RawTerminal,
}

impl Screen {
    /// With rows in this order at first.
    ///
    /// # Errors
    /// There is no terminal.
    pub fn new(sort: SortBy) -> anyhow::Result<Self> {
        terminal::required()?;
        Ok(Self {
            state: screen::State::new(sort),
            shown: None,
            is_last: false,
            save_to: None,
            pressed: VecDeque::new(),
            live: None,
        })
    }

    /// Enters the screen.
    pub(super) fn begin(&mut self) -> anyhow::Result<()> {
        ignore_stopping();
        let resized = signal(SignalKind::window_change()).context("cannot handle signals")?;
        let terminal = RawTerminal::new()?;
        let keys = Watched::new(terminal.input().context("cannot read keys")?)?;
        let errors = HeldErrors::new();
        let out = BufWriter::with_capacity(1 << 16, terminal::output().context("cannot use the terminal")?);
        let screen = screen::Screen::new(out, terminal::size()).context("cannot use the terminal")?;
        self.live = Some(Live { screen, keys, resized, _errors: errors, _terminal: terminal });
        self.draw(&Dictionary::default())
    }

    /// Leaves it.
    pub(super) fn finish(&mut self) {
        self.live = None;
    }

    pub(super) fn wanted(&self) -> Wanted<'_> {
        Wanted {
            selection: self.state.selection(),
            everything: self.is_last || self.save_to.is_some() || self.state.needs_names(),
            curves: self.save_to.is_some(),
            since: self.state.since(),
            often: !self.is_last && self.save_to.is_none(),
        }
    }

    /// Waits until a key has to be answered.
    pub(super) async fn request(&mut self) -> anyhow::Result<Request> {
        loop {
            while let Some(key) = self.pressed.pop_front() {
                let request = self.state.press(key);
                self.is_last |= request == Request::Report && self.state.is_frozen();
                if request != Request::Redraw || self.pressed.is_empty() {
                    return Ok(request);
                }
            }
            let Some(live) = &mut self.live else { return std::future::pending().await };
            tokio::select! {
                result = live.keys.readable() => {
                    result?;
                    let mut bytes = [0; KEYS];
                    let length = live.keys.inner().read(&mut bytes).context("cannot read keys")?;
                    if length < KEYS {
                        live.keys.exhausted();
                    }
                    self.pressed.extend(screen::keys(bytes.get(..length).unwrap_or_default()));
                }
                _ = live.resized.recv() => {
                    settle(live.screen.resize(terminal::size()))?;
                    return Ok(Request::Redraw);
                }
            }
        }
    }

    /// Notes whether every target has exited.
    pub(super) fn note_end(&mut self, has_ended: bool) {
        self.state.note_end(has_ended);
    }

    /// Takes a report with its names, and shows it unless the screen is frozen. Returns one that is not shown any more.
    pub(super) fn show(&mut self, draft: Draft, names: &mut Names) -> anyhow::Result<Option<Draft>> {
        let Content::Report(profile) = draft.content() else { return Ok(Some(draft)) };
        if let Some(path) = self.save_to.take() {
            self.save_profile(&path, names.dictionary(), profile);
        }
        if self.state.is_frozen() && !self.is_last {
            self.redraw(names)?;
            return Ok(Some(draft));
        }
        self.is_last = false;
        self.state.note(profile);
        let before = self.shown.replace(draft);
        self.redraw(names)?;
        Ok(before)
    }

    /// Draws the report that is shown, with names that have come since.
    pub(super) fn redraw(&mut self, names: &mut Names) -> anyhow::Result<()> {
        if let Some(draft) = &self.shown {
            draft.settle(names);
        }
        self.draw(names.dictionary())
    }

    fn draw(&mut self, dictionary: &Dictionary) -> anyhow::Result<()> {
        let Some(live) = &mut self.live else { return Ok(()) };
        let selection = self.state.selection().clone();
        let profile = match self.shown.as_ref().map(Draft::content) {
            Some(Content::Report(profile)) => Some(profile),
            _ => None,
        };
        let view = profile.map(|profile| View::new(dictionary, profile, &selection));
        settle(live.screen.draw(view.as_ref(), &mut self.state))
    }

    /// Saves what is shown, if that stays, or else the next report. Returns whether that is needed.
    pub(super) fn save(&mut self, path: String, dictionary: &Dictionary) -> bool {
        if !self.state.is_frozen() {
            self.save_to = Some(path);
            return true;
        }
        let shown = self.shown.take();
        if let Some(Content::Report(profile)) = shown.as_ref().map(Draft::content) {
            self.save_profile(&path, dictionary, profile);
        }
        self.shown = shown;
        false
    }

    fn save_profile(&mut self, path: &str, dictionary: &Dictionary, profile: &Profile) {
        self.state.say(match save(Path::new(path), dictionary, profile) {
            Ok(()) => format!("saved to {path}"),
            Err(error) => format!("not saved: {error:#}"),
        });
    }
}

/// Writes a report to a file: as text if that is how its name ends, else for `memtrace report`.
fn save(path: &Path, dictionary: &Dictionary, profile: &Profile) -> anyhow::Result<()> {
    if path.extension().is_none_or(|end| end != "txt") {
        let saved = Saved { gained: Delta::whole(dictionary), profile };
        return Ok(Writer::create(path, VERSION)?.append(&saved)?);
    }
    let selection = Selection::default();
    let mut file = ReportFile::create(path, Keep::Latest)?;
    let mut text = Text::new(Style::default(), TimeZone::system());
    text.report(&mut file, &View::new(dictionary, profile, &selection))?;
    Ok(file.flush()?)
}
