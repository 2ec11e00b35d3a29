//! Options for the format of reports and for where they go.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use clap::ValueEnum;

use crate::{
    profile::Selection,
    report::{Json, Reporter, Text},
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
    /// The writer, and whether to print in colour by default.
    pub(super) fn open(&self, keep: Keep) -> anyhow::Result<(Box<dyn Write>, bool)> {
        open_output(self.output.as_deref(), keep)
    }
}

/// Standard output or a file, and whether to print in colour by default.
pub(super) fn open_output(path: Option<&Path>, keep: Keep) -> anyhow::Result<(Box<dyn Write>, bool)> {
    match path.filter(|path| *path != Path::new("-")) {
        Some(path) => {
            let file = ReportFile::create(path, keep).context("--output")?;
            Ok((Box::new(file), false))
        }
        None => {
            let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            Ok((Box::new(io::stdout()), colour))
        }
    }
}

/// Options of what is shown.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Format of reports
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    pub(super) format: Format,
    /// Write to this file instead of standard output (-): each JSON report replaces the previous one; text and --trace
    /// are appended
    #[arg(short = 'O', long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// When to color the output
    #[arg(long = "color", alias = "colour", value_enum, value_name = "WHEN", default_value_t = Colour::Auto)]
    colour: Colour,
}

impl ShowArgs {
    /// The writer, and whether to print in colour. `all`: later output does not replace earlier output.
    pub(super) fn open(&self, all: bool) -> anyhow::Result<(Box<dyn Write>, bool)> {
        let keep = if self.format == Format::Json && !all { Keep::Latest } else { Keep::All };
        let (writer, colour) = open_output(self.output.as_deref(), keep)?;
        let colour = match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => colour,
        };
        Ok((writer, colour))
    }

    /// Where reports go, and which of their rows. `trace`: events go there too.
    pub(super) fn output(&self, selection: Selection, trace: bool) -> anyhow::Result<Output> {
        let (writer, colour) = self.open(trace)?;
        let reporter: Box<dyn Reporter> = match self.format {
            Format::Text => Box::new(Text::new(colour, jiff::tz::TimeZone::system())),
            Format::Json => Box::new(Json),
        };
        Ok(Output::new(reporter, writer, selection))
    }

    /// Whether the format is for people, not for scripts.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == Format::Text
    }
}
