//! Options for how text looks and for where output goes.

use std::{
    io::{self, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use clap::ValueEnum;

use crate::{
    report::Style,
    session::{Keep, ReportFile},
};

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

/// Makes sure that reports and the saved session go to different files.
///
/// # Errors
/// They are the same.
pub(super) fn check_distinct(output: Option<&Path>, saved: &Path) -> anyhow::Result<()> {
    let place = |path: &Path| {
        let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
        let directory = directory.unwrap_or_else(|| Path::new(".")).canonicalize().ok()?;
        Some(directory.join(path.file_name()?))
    };
    if output
        .is_some_and(|output| output == saved || place(output).is_some_and(|at| Some(at) == place(saved)))
    {
        bail!("-O and --save name the same file, {}: one would replace the other", saved.display());
    }
    Ok(())
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
            let style = Style {
                colour,
                width: is_terminal.then(columns).flatten(),
                full_names: false,
                whole_stacks: false,
            };
            Ok((Box::new(io::stdout()), style))
        }
    }
}

/// Characters in a line of the terminal: `COLUMNS`, as users export it, else its size.
fn columns() -> Option<usize> {
    let exported = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    exported.or_else(|| Some(usize::from(terminal_size::terminal_size()?.0.0))).filter(|columns| *columns > 0)
}

/// Options for how text looks and for where it goes.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LookArgs {
    /// Write to this file instead of standard output (-); an existing file is replaced. Of text and --trace it holds everything,
    /// of other formats the latest report
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
    pub(super) all: bool,
}

impl LookArgs {
    /// The writer, and how text looks there.
    pub(super) fn open(&self, keep: Keep) -> anyhow::Result<(Box<dyn Write>, Style)> {
        let (writer, usual) = open_output(self.output.as_deref(), keep)?;
        let colour = match self.colour {
            Colour::Always => true,
            Colour::Never => false,
            Colour::Auto => usual.colour,
        };
        Ok((writer, Style { colour, full_names: self.full_names, ..usual }))
    }

    /// The file that is written instead of standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| *path != Path::new("-"))
    }
}
