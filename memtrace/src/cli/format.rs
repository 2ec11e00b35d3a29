//! Options for the format of reports.

use std::{
    io::{self, IsTerminal as _, Write},
    path::Path,
};

use clap::ValueEnum;
use jiff::tz::TimeZone;

use crate::{
    profile::{By, Selection},
    report::{Firefox, Folded, Html, Json, OpenMetrics, Pprof, Reporter, Style, Svg, Text, Unit},
    session::{Keep, Output},
};

use super::{
    message::usage,
    output::{LookArgs, check_distinct},
};

/// How reports look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// For people.
    Text,
    /// For scripts: one JSON object per report, each on one line.
    Json,
    /// A line for each stack, for flamegraph.pl, inferno and Speedscope.
    Folded,
    /// For `go tool pprof` and what else reads its files: compressed, so not for terminals.
    Pprof,
    /// For <https://profiler.firefox.com>: load the file there; it stays in the browser.
    Firefox,
    /// For Prometheus; of stacks, the first 100 and a sum of the others.
    Openmetrics,
    /// A flame graph for browsers: zoom, search, colours by verdict.
    Svg,
    /// A page with everything: verdict, balance, flame graph, stacks, losses.
    Html,
}

/// How output looks that is not only about stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum PlainFormat {
    /// For people.
    Text,
    /// For scripts: one JSON object, on one line.
    Json,
}

/// What stacks are weighed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum UnitName {
    /// Outstanding bytes.
    Bytes,
    /// Outstanding blocks.
    Blocks,
}

/// Options of text or JSON.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct PlainArgs {
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = PlainFormat::Text)]
    pub(super) format: PlainFormat,
    #[command(flatten)]
    look: LookArgs,
}

impl PlainArgs {
    /// The writer, and how text looks.
    pub(super) fn open(&self) -> anyhow::Result<(Box<dyn Write>, Style)> {
        let is_json = self.format == PlainFormat::Json;
        self.look.open(if is_json { Keep::Latest } else { Keep::All })
    }
}

/// Options of what is shown.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ShowArgs {
    /// Format of reports. Formats other than text and json have all stacks, and only the last report on standard output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Flame graphs and folded stacks: what a stack's width or number is
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = UnitName::Bytes)]
    unit: UnitName,
    #[command(flatten)]
    look: LookArgs,
}

impl Format {
    /// Whether it is made of documents: complete reports that do not follow each other in a file.
    fn is_document(self) -> bool {
        !matches!(self, Self::Text | Self::Json)
    }

    /// Its name on the command line.
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl ShowArgs {
    /// Whether the format has one report, of all stacks.
    pub(super) fn is_document(&self) -> bool {
        self.format.is_document()
    }

    /// Where reports go, and which of their rows. `trace`: events go there too. Ends the program if the options contradict
    /// each other.
    pub(super) fn output(&self, selection: Selection, trace: bool) -> anyhow::Result<Output> {
        let is_document = self.format.is_document();
        if is_document {
            self.check(&selection, trace);
        }
        let keep = if self.format == Format::Text || trace { Keep::All } else { Keep::Latest };
        let (writer, style) = self.look.open(keep)?;
        let unit = match self.unit {
            UnitName::Bytes => Unit::Bytes,
            UnitName::Blocks => Unit::Blocks,
        };
        let reporter: Box<dyn Reporter> = match self.format {
            Format::Text => Box::new(Text::new(style, TimeZone::system())),
            Format::Json => Box::new(Json),
            Format::Folded => Box::new(Folded::new(unit)),
            Format::Pprof => Box::new(Pprof),
            Format::Firefox => Box::new(Firefox),
            Format::Openmetrics => Box::new(OpenMetrics),
            Format::Svg => Box::new(Svg::new(unit)),
            Format::Html => Box::new(Html::new(TimeZone::system())),
        };
        // Who filters stacks or asks for every row wants to see what that finds.
        let hide_settled =
            self.format == Format::Text && !self.look.all && selection.top != 0 && !selection.filters();
        let top = if is_document { 0 } else { selection.top };
        let output = Output::new(reporter, writer, Selection { hide_settled, top, ..selection });
        Ok(if is_document && self.look.path().is_none() { output.only_last() } else { output })
    }

    /// The same, saved to a file as well if one is named.
    ///
    /// # Errors
    /// As [`ShowArgs::output`]; both name one file.
    pub(super) fn output_saved(
        &self,
        selection: Selection,
        trace: bool,
        save: Option<&Path>,
    ) -> anyhow::Result<Output> {
        let Some(path) = save else { return self.output(selection, trace) };
        check_distinct(self.path(), path)?;
        self.output(selection, trace)?.saved_to(path)
    }

    fn check(&self, selection: &Selection, trace: bool) {
        let name = self.format.name();
        if trace {
            usage(&format!("--trace prints text or json, not {name}"));
        }
        if self.format == Format::Pprof && self.look.path().is_none() && io::stdout().is_terminal() {
            usage(&format!("{name} is not for terminals: name a file with -O, or redirect the output"));
        }
        if selection.by == By::Cache {
            usage(&format!("--by cache is for text and json: {name} shows stacks"));
        }
    }

    /// The file that is written instead of standard output.
    pub(super) fn path(&self) -> Option<&Path> {
        self.look.path()
    }

    /// Whether the format is for people, not for scripts.
    pub(super) fn is_for_people(&self) -> bool {
        self.format == Format::Text
    }
}
