//! Options for the format of reports and for where they go.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::{
    profile::Selection,
    report::{Json, Reporter, Style, Text},
    session::{Keep, Output, ReportFile},
};

/// How reports look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For scripts: one JSON object per report, each on one line.
    Json,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Colour {
    /// On a terminal, unless `NO_COLOR` is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Where a command prints to.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct OutputArgs {
    /// Print to this file instead of standard output (-)
    #[arg(short = 'O', long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl OutputArgs {
    /// The writer, and how text looks there by default.
    pub(super) fn open(&self, keep: Keep) -> anyhow::Result<(Box<dyn Write>, Style)> {
        open_output(self.output.as_deref(), keep)
    }
}

/// Standard output or a file, and how text looks there by default.
pub(super) fn open_output(path: Option<&Path>, keep: Keep) -> anyhow::Result<(Box<dyn Write>, Style)> {
    match path.filter(|path| *path != Path::new("-")) {
        Some(path) if path == Path::new("/dev/null") => Ok((Box::new(io::sink()), Style::default())),
        Some(path) => {
            let file = ReportFile::create(path, keep).context("--output")?;
            Ok((Box::new(file), Style::default()))
        }
        None => {
            let is_terminal = io::stdout().is_terminal();
            let colour = is_terminal && std::env::var_os("NO_COLOR").is_none();
            let style = Style { colour, width: is_terminal.then(columns).flatten(), full_names: false };
            Ok((Box::new(io::stdout()), style))
        }
    }
}

/// Characters in a line of the terminal: `COLUMNS`, as users export it, else its size.
fn columns() -> Option<usize> {
    let exported = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    exported.or_else(|| Some(usize::from(terminal_size::terminal_size()?.0.0))).filter(|columns| *columns > 0)
}

/// Options of what is shown.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Format of reports
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Write to this file instead of standard output (-); an existing file is replaced. Of JSON reports it holds the latest,
    /// of text and --trace everything
    #[arg(short = 'O', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// When to color the output
    #[arg(long = "color", alias = "colour", value_enum, value_name = "WHEN", default_value_t = Colour::Auto)]
    colour: Colour,
    /// Text: show every frame with its whole name, its module and its address there
    #[arg(long)]
    full_names: bool,
    /// Text: show stacks that are steady or from start-up too
    #[arg(long)]
    all: bool,
}

impl ShowArgs {
    /// The writer, and how text looks. `all`: later output does not replace earlier output.
    pub(super) fn open(&self, all: bool) -> anyhow::Result<(Box<dyn Write>, Style)> {
        let keep = if self.format == Format::Json && !all { Keep::Latest } else { Keep::All };
        let (writer, usual) = open_output(self.output.as_deref(), keep)?;
        let colour = match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => usual.colour,
        };
        Ok((writer, Style { colour, full_names: self.full_names, ..usual }))
    }

    /// Where reports go, and which of their rows. `trace`: events go there too.
    pub(super) fn output(&self, selection: Selection, trace: bool) -> anyhow::Result<Output> {
        let (writer, style) = self.open(trace)?;
        let reporter: Box<dyn Reporter> = match self.format {
            Format::Text => Box::new(Text::new(style, jiff::tz::TimeZone::system())),
            Format::Json => Box::new(Json),
        };
        // Who filters stacks or asks for every row wants to see what that finds.
        let hide_settled =
            self.format == Format::Text && !self.all && selection.top != 0 && !selection.filters();
        Ok(Output::new(reporter, writer, Selection { hide_settled, ..selection }))
    }

    /// The file that is written instead of standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }

    /// Whether the format is for people, not for scripts.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == Format::Text
    }
}
