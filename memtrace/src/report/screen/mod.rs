//! The live screen: what the user has chosen ([`State`]), and the picture of a view of a report.
//!
//! Nothing here waits or reads: keys come as bytes ([`keys()`]), and what has to be done about one is a [`Request`].

mod detail;
mod draw;
mod head;
mod history;
mod keys;
mod list;
mod state;

use std::io::{self, Write};

use ratatui::{
    Terminal, TerminalOptions, Viewport,
    backend::CrosstermBackend,
    layout::Rect,
    style::{Color, Modifier, Style},
    text::{Line, Span},
};

pub use keys::{Key, keys};
pub use state::{Request, State};

use super::escape;
use crate::profile::{Kind, View};

/// Enters the screen of full-screen programs, and hides the cursor.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l";
/// Shows the cursor, and goes back to what was there before.
const LEAVE: &[u8] = b"\x1b[?25h\x1b[?1049l";

/// A screen that is written to a terminal. The terminal is as it was before when this is dropped.
pub struct Screen<W: Write> {
    terminal: Terminal<CrosstermBackend<W>>,
}

impl<W: Write> Screen<W> {
    /// Of that many columns and lines.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn new(mut writer: W, size: (u16, u16)) -> io::Result<Self> {
        writer.write_all(ENTER)?;
        let viewport = Viewport::Fixed(area(size));
        let terminal = Terminal::with_options(CrosstermBackend::new(writer), TerminalOptions { viewport })?;
        Ok(Self { terminal })
    }

    /// The terminal has another size now, or shows something else: everything is drawn again.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn resize(&mut self, size: (u16, u16)) -> io::Result<()> {
        self.terminal.resize(area(size))?;
        self.terminal.clear()
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// What the writer returns.
    pub fn draw(&mut self, view: Option<&View<'_>>, state: &mut State) -> io::Result<()> {
        self.terminal.draw(|frame| draw::draw(frame.buffer_mut(), view, state))?;
        Ok(())
    }
}

impl<W: Write> Drop for Screen<W> {
    fn drop(&mut self) {
        let backend = self.terminal.backend_mut();
        let _ = backend.write_all(LEAVE).and_then(|()| Write::flush(backend));
    }
}

/// Terminals of more than 1,000 lines or columns are drawn up to there.
fn area((columns, lines): (u16, u16)) -> Rect {
    Rect::new(0, 0, columns.min(1000), lines.min(1000))
}

/// Escaped text in a style.
fn span(text: &str, style: Style) -> Span<'static> {
    Span::styled(escape(text).into_owned(), style)
}

/// A line of escaped text in a style.
fn line(text: &str, style: Style) -> Line<'static> {
    Line::from(span(text, style))
}

/// Lines of at most `width` columns, `most` of them, of which the last ends in an ellipsis if there were more.
fn wrapped(text: &str, width: usize, most: usize, style: Style) -> Vec<Line<'static>> {
    let text = escape(text);
    let options = textwrap::Options::new(width.max(8))
        .subsequent_indent("  ")
        .word_splitter(textwrap::WordSplitter::NoHyphenation)
        .word_separator(textwrap::WordSeparator::AsciiSpace)
        .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit);
    let parts = textwrap::wrap(&text, options);
    let is_cut = parts.len() > most;
    let shown = parts.iter().take(most).enumerate();
    let lines = shown.map(|(number, part)| {
        if is_cut && number + 1 == most { cut(&format!("{part} …"), width) } else { part.to_string() }
    });
    lines.map(|text| Line::from(Span::styled(text, style))).collect()
}

/// The beginning of a text, with an ellipsis if it is longer than `width` columns.
fn cut(text: &str, width: usize) -> String {
    if textwrap::core::display_width(text) <= width {
        return text.to_owned();
    }
    let mut shown = String::new();
    for c in text.chars() {
        if textwrap::core::display_width(&shown) + 2 > width {
            break;
        }
        shown.push(c);
    }
    shown.push('…');
    shown
}

const PLAIN: Style = Style::new();
const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().add_modifier(Modifier::DIM);
const WARNING: Style = Style::new().fg(Color::Yellow).add_modifier(Modifier::BOLD);

/// How a verdict is emphasized: as in text.
fn of_kind(kind: Kind) -> Style {
    match kind {
        Kind::Lost => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        Kind::Growing => Style::new().fg(Color::Red),
        Kind::WarmingUp => Style::new().fg(Color::Yellow),
        Kind::TooEarly => Style::new().fg(Color::Cyan),
        Kind::Steady | Kind::StartUp => Style::new().fg(Color::Green),
    }
}

/// The picture of a view as text, without spaces at the ends of lines.
#[cfg(test)]
pub(super) fn picture(view: Option<&View<'_>>, state: &mut State, size: (u16, u16)) -> String {
    let mut buffer = ratatui::buffer::Buffer::empty(area(size));
    draw::draw(&mut buffer, view, state);
    let lines = buffer.content().chunks(usize::from(size.0).max(1)).map(|cells| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        line.trim_end().to_owned()
    });
    lines.collect::<Vec<_>>().join("\n")
}
