//! Options that `attach` and `run` share.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ValueEnum;
use memtrace_common::WalkMethod;

use crate::{
    allocators::ReturnProbes,
    bpf::Config,
    profile::{
        Selection, SortBy,
        units::{parse_duration, parse_size},
    },
    session::{Output, Schedule},
    sources::process::{LeakOptions, Options, Placement},
    target::select::Selector,
};

use super::{
    choice::ChoiceArgs,
    cost::CostArgs,
    format::ShowArgs,
    leak::LeakArgs,
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

/// How stacks are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Stacks {
    /// Call frame information (.eh_frame, .debug_frame): complete, however the code was built.
    Cfi,
    /// Frame pointers: short or wrong in code built without them.
    Fp,
    /// The caller only, to measure what the rest costs.
    #[value(hide = true)]
    Caller,
    /// By the kernel's `bpf_get_stackid`, for comparison; only the caller is reported.
    #[value(hide = true)]
    Kernel,
}

impl From<Stacks> for WalkMethod {
    fn from(stacks: Stacks) -> Self {
        match stacks {
            Stacks::Cfi => Self::Cfi,
            Stacks::Fp => Self::FramePointer,
            Stacks::Caller => Self::Caller,
            Stacks::Kernel => Self::Kernel,
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
        let output = self.show.output(selection, trace)?;
        match &self.save {
            Some(path) => output.saved_to(path),
            None => Ok(output),
        }
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
    /// Count only blocks at least this old
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    older: Option<Duration>,
    /// Show stacks of the same code in several processes as one, with the number of processes
    #[arg(long)]
    merge: bool,
    /// Track only allocations of at least this size (100, 4KiB, 1MB)
    #[arg(short = 'z', long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,
    /// Track only allocations of at most this size
    #[arg(short = 'Z', long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Sort stacks by this, largest first
    #[arg(long, value_enum, default_value_t = Sort::Verdict)]
    sort: Sort,
    /// List the blocks of each stack shown: address, size, age
    #[arg(short = 'a', long)]
    show_allocs: bool,
    /// Print every allocation and free as it happens
    #[arg(short, long)]
    trace: bool,
    /// Track at most this many live blocks, at about 50 bytes of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=200_000_000))]
    max_live: u32,
    /// Track at most this many distinct stacks, at 128 bytes of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    max_stacks: u32,
    /// Do not count how long freed blocks lived, which costs about 10 ns a free: fewer verdicts can be given then
    #[arg(long)]
    no_lifetimes: bool,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    pub(super) leaks: LeakArgs,
    #[command(flatten)]
    cost: CostArgs,
    /// How to unwind stacks
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Stacks::Cfi)]
    stacks: Stacks,
    /// Also show stacks that no longer hold anything
    #[arg(long, hide = true)]
    freed: bool,
    /// Attach as on kernels without multi-uprobes, for tests
    #[arg(long, hide = true)]
    perf_uprobes: bool,
    /// Probe the first byte of functions, as other tools do: slow, for comparison
    #[arg(long, hide = true)]
    first_byte: bool,
    /// Use return probes on every allocating function, even where that can kill the target: for comparison
    #[arg(long, hide = true)]
    return_probes: bool,
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
fn parse_interval(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time.is_zero() { Err("must be more than zero".to_owned()) } else { Ok(time) }
}

impl TraceArgs {
    /// Checks options against each other.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        if self.min_size.unwrap_or(0) > self.max_size.unwrap_or(u64::MAX) {
            usage("--min-size is larger than --max-size: no allocation could match");
        }
        if self.merge && self.show_allocs {
            usage(
                "--show-allocs lists the blocks of each process, which --merge puts together: use one of them",
            );
        }
        Ok(())
    }

    /// Options of a session that traces `targets` processes and no others, with `limit` as the default budget: a share of
    /// their CPU time.
    pub(super) fn options(
        &self,
        verbose: bool,
        targets: usize,
        limit: Option<f64>,
        leaks: LeakOptions,
    ) -> Options {
        let targets = u32::try_from(targets).unwrap_or(u32::MAX);
        Options {
            config: Config {
                max_live: self.max_live,
                max_stacks: self.max_stacks,
                min_size: self.min_size.unwrap_or(0),
                max_size: self.max_size.unwrap_or(u64::MAX),
                trace: self.trace,
                verbose,
                method: self.stacks.into(),
                targets,
                perf: self.perf_uprobes,
                without: self.cost.without(self.no_lifetimes),
                ..Config::default()
            },
            older: self.older,
            show_allocs: self.show_allocs,
            freed: self.freed,
            verdicts: true,
            early: true,
            // --trace promises every event.
            counting: self.cost.counting(limit.filter(|_| !self.trace)),
            placement: Placement {
                first_byte: self.first_byte,
                returns: if self.return_probes { ReturnProbes::Everywhere } else { ReturnProbes::Safe },
                choice: self.choice.choice().into(),
            },
            leaks,
            follow: false,
            select: Selector::default(),
            names: Some(super::NAMES),
        }
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
