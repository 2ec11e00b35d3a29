//! Options that `attach` and `run` share.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;

use crate::{
    profile::{Selection, Since, SortBy, units::parse_duration},
    session::{Output, Schedule},
    sources::process::{LeakOptions, Options},
};

use super::{
    count::CountArgs,
    format::ShowArgs,
    message::{message, usage},
};

/// What stacks are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Sort {
    /// Lost, growing, warming up, too early, steady, start-up; the worst of each first.
    Verdict,
    /// Bytes that a leak check found lost, then outstanding bytes.
    Lost,
    /// Outstanding bytes.
    Bytes,
    /// Outstanding blocks.
    Blocks,
    /// Growth in bytes per second.
    Rate,
    /// Age of the oldest block.
    Age,
}

impl From<Sort> for SortBy {
    fn from(sort: Sort) -> Self {
        match sort {
            Sort::Verdict => Self::Verdict,
            Sort::Lost => Self::Lost,
            Sort::Bytes => Self::Bytes,
            Sort::Blocks => Self::Blocks,
            Sort::Rate => Self::Rate,
            Sort::Age => Self::Age,
        }
    }
}

/// Options that limit reports to a time that was marked.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct MarkArgs {
    /// Show only what was allocated since the last mark; SIGUSR1 to memtrace marks a moment
    #[arg(long)]
    since_mark: bool,
    /// Show only what was allocated between the last two marks, and is still there: mark, do it once, mark again
    #[arg(long, conflicts_with = "since_mark")]
    between_marks: bool,
}

impl MarkArgs {
    /// What reports are limited to.
    pub(super) fn since(self) -> Since {
        match self {
            Self { since_mark: true, .. } => Since::LastMark,
            Self { between_marks: true, .. } => Since::BetweenMarks,
            _ => Since::Start,
        }
    }
}

/// Options of reports, for every kind of target.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ReportArgs {
    /// Time between two reports (500ms, 5s, 1m; a bare number is seconds)
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
    /// Stop after this many reports
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// Stop after this time, with a last report
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval)]
    duration: Option<Duration>,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    marks: MarkArgs,
    /// Save every report with all stacks to this file, for `memtrace report` and `memtrace diff`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl ReportArgs {
    pub(super) fn schedule(&self) -> Schedule {
        Schedule {
            interval: self.interval,
            count: self.count,
            duration: self.duration,
            outlive: false,
            last_report: true,
        }
    }

    /// The file with the reports: that of `--save`, or else of `-O`.
    fn path(&self) -> Option<&Path> {
        self.save.as_deref().or_else(|| self.show.path())
    }

    /// Where reports go, and which of their rows. `trace`: events go there too.
    pub(super) fn output(&self, selection: Selection, trace: bool) -> anyhow::Result<Output> {
        let output = self.show.output_saved(selection, trace, self.save.as_deref())?;
        Ok(output.limited_to(self.marks.since()))
    }

    /// Prints a remark on standard error, unless the output is for scripts.
    pub(super) fn remark(&self, what: &str) {
        if self.show.is_for_people() {
            message(what);
        }
    }

    /// Announces on standard error that tracing has begun.
    pub(super) fn announce(&self, what: &str) {
        let interval = humantime::format_duration(self.interval);
        self.remark(&format!("{what}; a report every {interval}, Ctrl-C ends tracing with a last report"));
        if self.marks.since() != Since::Start {
            self.remark(&format!("`kill -USR1 {}` marks a moment", std::process::id()));
        }
    }
}

/// Options of a traced session.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct TraceArgs {
    #[command(flatten)]
    report: ReportArgs,
    /// Show at most this many stacks; 0 shows all
    #[arg(short = 'T', long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Show stacks of the same code in several processes as one, with the number of processes
    #[arg(long)]
    merge: bool,
    /// Sort stacks by this, largest first
    #[arg(long, value_enum, default_value_t = Sort::Verdict)]
    sort: Sort,
    /// List the blocks of each stack shown: address, size, age
    #[arg(short = 'a', long)]
    show_allocs: bool,
    /// Print every allocation and free as it happens
    #[arg(short, long)]
    trace: bool,
    #[command(flatten)]
    pub(super) counting: CountArgs,
    /// Also show stacks that no longer hold anything
    #[arg(long, hide = true)]
    freed: bool,
}

/// A process id.
pub(super) fn parse_pid(text: &str) -> Result<u32, String> {
    text.parse()
        .map_err(|_wrong| "a process id is a number: `pidof NAME` prints those of a program".to_owned())
}

/// A number of reports that is not zero.
pub(super) fn parse_count(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(count) => Ok(count),
        Err(error) => Err(error.to_string()),
    }
}

/// A nonzero time.
pub(super) fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() { Err("must be more than zero".to_owned()) } else { Ok(time) }
}

impl TraceArgs {
    /// Checks options against each other.
    pub(super) fn check(&self) {
        self.counting.check();
        if self.merge && self.show_allocs {
            usage(
                "--show-allocs lists the blocks of each process, which --merge puts together: use one of them",
            );
        }
    }

    /// As [`CountArgs::options`], and what reports show.
    pub(super) fn options(
        &self,
        verbose: bool,
        targets: usize,
        limit: Option<f64>,
        leaks: LeakOptions,
    ) -> Options {
        // --trace promises every event.
        let mut options = self.counting.options(verbose, targets, limit.filter(|_| !self.trace), leaks);
        options.config.trace = self.trace;
        Options { show_allocs: self.show_allocs, freed: self.freed, ..options }
    }

    pub(super) fn schedule(&self) -> Schedule {
        self.report.schedule()
    }

    /// The file with the reports: that of `--save`, or else of `-O`.
    pub(super) fn path(&self) -> Option<&Path> {
        self.report.path()
    }

    pub(super) fn output(&self) -> anyhow::Result<Output> {
        let (sort, top, merge) = (self.sort.into(), self.top, self.merge);
        let selection = Selection { sort, top, merge, ..Selection::default() };
        self.report.output(selection, self.trace)
    }

    /// Prints a remark on standard error, unless the output is for scripts.
    pub(super) fn remark(&self, what: &str) {
        if !self.trace {
            self.report.remark(what);
        }
    }

    /// Announces on standard error that tracing has begun, unless the output is for scripts.
    pub(super) fn announce(&self, what: &str) {
        if !self.trace {
            self.report.announce(what);
        }
    }
}
