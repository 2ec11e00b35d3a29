//! `memtrace report`.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::bail;

use crate::{
    profile::{Selection, Since},
    session::{Schedule, follow},
    sources::saved::SavedReport,
};

use super::{
    block_on,
    format::ShowArgs,
    kernel::By,
    message::{usage, warn_of_tail},
    options::{MarkArgs, Sort},
};

/// Options of `memtrace report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace attach $(pidof my-server) --save leak.mt
  memtrace report leak.mt                       the last report
  memtrace report leak.mt --at 1 --sort rate    the first report, sorted by growth
  memtrace report leak.mt --filter handle_ -T 0 every stack with such a function
  memtrace report leak.mt --merge               workers of one program together
  memtrace report leak.mt -f json -O report.json

The file holds every stack with its names: this needs neither root nor the program's files.")]
pub(super) struct Args {
    /// A file that --save wrote
    file: PathBuf,
    /// Show this report, counted from 1 [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,
    #[command(flatten)]
    show: ShowArgs,
    #[command(flatten)]
    marks: MarkArgs,
    /// Show at most this many rows; 0 shows all
    #[arg(short = 'T', long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Sort rows by this, largest first
    #[arg(long, value_enum, default_value_t = Sort::Verdict)]
    sort: Sort,
    /// Show stacks or, for the kernel, caches
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Stack)]
    by: By,
    /// Show only stacks of this process
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,
    /// Show only stacks with this text in the name of a function, source file or module
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Show stacks of the same code in several processes as one, with the number of processes
    #[arg(long)]
    merge: bool,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let mut source = SavedReport::open(&args.file, args.at)?;
    warn_of_tail(source.tail());
    let saved = source.parts().1.marks.since;
    if args.marks.since() != Since::Start && args.marks.since() != saved {
        bail!(
            "{}: this report was not limited to marks like that when it was saved, and does not have the times of blocks: add \
             --since-mark or --between-marks to the command that saves, or compare two reports with `memtrace diff`",
            args.file.display()
        );
    }
    if source.parts().1.heaps().is_some() && args.filter.is_some() && !args.show.is_document() {
        usage(
            "--filter: a scan has no stacks to choose from in text and JSON; `-f folded` and others filter its sizes and types",
        );
    }
    let selection = Selection {
        sort: args.sort.into(),
        top: args.top,
        by: args.by.into(),
        pid: args.pid,
        containing: args.filter.clone(),
        merge: args.merge,
        ..Selection::default()
    };
    let schedule = Schedule {
        interval: Duration::from_secs(3600),
        count: None,
        duration: None,
        outlive: false,
        last_report: false,
    };
    let mut output = args.show.output(selection, false)?.limited_to(saved);
    block_on(follow(&mut source, schedule, &mut output))?;
    Ok(ExitCode::SUCCESS)
}
