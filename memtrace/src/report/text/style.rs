//! How text looks: colours, the width of lines, how much of names.

use std::fmt;
use std::io::{self, Write};

/// Emphasized.
pub(in crate::report) const BOLD: &str = "\x1b[1m";
/// What is read last.
pub(in crate::report) const DIM: &str = "\x1b[2m";
/// Characters of a line of frames, if nothing says how wide the terminal is.
const USUAL_WIDTH: usize = 120;
/// Lines of a stack in a report.
const LINES: usize = 8;
/// Where lines are shorter than this, most of those with figures take two.
const NARROW: usize = 100;
/// Lines are never made for less: names could not be recognized.
const LEAST_WIDTH: usize = 40;

/// How text looks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Emphasis by ANSI escapes.
    pub colour: bool,
    /// Characters that a line of the terminal holds; `None` for a pipe or a file, where only the lines of frames are kept
    /// short.
    pub width: Option<usize>,
    /// Every frame with its whole name, its module and its offset there.
    pub full_names: bool,
    /// Every line of a stack.
    pub whole_stacks: bool,
}

impl Style {
    pub(in crate::report) fn paint<T>(&self, style: &'static str, text: T) -> Painted<T> {
        Painted { style: if self.colour { style } else { "" }, text }
    }

    /// Characters that lines of frames may have.
    pub(super) fn line(&self) -> usize {
        self.width.unwrap_or(USUAL_WIDTH).max(LEAST_WIDTH)
    }

    /// Lines that a stack may take: fewer where others are broken.
    pub(super) fn stack_lines(&self) -> usize {
        if self.whole_stacks {
            return usize::MAX;
        }
        if self.line() < NARROW { LINES - 2 } else { LINES }
    }

    /// Writes lines, those that are too long broken at spaces. What continues a line is indented as it is, or by four.
    pub(super) fn write(&self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        let Some(width) = self.width else { return out.write_all(text.as_bytes()) };
        let width = width.max(LEAST_WIDTH);
        for line in text.split_inclusive('\n') {
            let line = line.strip_suffix('\n').unwrap_or(line);
            if textwrap::core::display_width(line) <= width {
                writeln!(out, "{line}")?;
                continue;
            }
            let indent = line.len() - line.trim_start_matches(' ').len();
            let further = " ".repeat(if indent > 0 { indent.min(width / 2) } else { 4 });
            let options = textwrap::Options::new(width)
                .subsequent_indent(&further)
                .word_splitter(textwrap::WordSplitter::NoHyphenation)
                .word_separator(textwrap::WordSeparator::AsciiSpace)
                .wrap_algorithm(textwrap::WrapAlgorithm::FirstFit)
                .break_words(false);
            for part in textwrap::wrap(line, options) {
                writeln!(out, "{part}")?;
            }
        }
        Ok(())
    }
}

/// Text with a style around it; with no style, only the text.
pub(in crate::report) struct Painted<T> {
    style: &'static str,
    text: T,
}

impl<T: fmt::Display> fmt::Display for Painted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = if self.style.is_empty() { "" } else { "\x1b[0m" };
        write!(f, "{}{}{reset}", self.style, self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::Style;

    #[test]
    fn lines_are_broken_for_a_terminal_only() {
        let text = "short\n    Lost: a sentence that is longer than a line of this terminal\n\nlast";
        let written = |width| {
            let mut out = Vec::new();
            Style { width, ..Style::default() }.write(&mut out, text).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!(written(None), text);
        assert_eq!(
            written(Some(40)),
            "short\n    Lost: a sentence that is longer than\n    a line of this terminal\n\nlast\n"
        );
        assert_eq!(written(Some(1)), written(Some(40)));
    }

    #[test]
    fn escapes_take_no_room() {
        let style = Style { colour: true, width: Some(40), full_names: false, whole_stacks: false };
        let line = format!(
            "{} {}",
            style.paint(super::BOLD, "x".repeat(19)),
            style.paint(super::DIM, "y".repeat(20))
        );
        let mut out = Vec::new();
        style.write(&mut out, &line).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 1);
    }
}
