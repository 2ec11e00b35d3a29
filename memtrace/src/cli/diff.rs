//! `memtrace diff`.

use std::{path::PathBuf, process::ExitCode};

use crate::{
    profile::{Profile, Subject, diff},
    report::Comparison,
    session::write_whole,
    sources::saved::SavedReport,
};

use super::{
    format::{PlainArgs, PlainFormat},
    message::{usage, warn_of_tail},
};

/// Options of `memtrace diff`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace diff before.mt after.mt              two sessions, or two builds of a program
  memtrace diff leak.mt                         the first and the last report of a session
  memtrace diff leak.mt --before-at 2 --at 9    the second and the ninth report

Stacks are matched by function and source file, not by address.")]
pub(super) struct Args {
    /// A file that --save wrote
    before: PathBuf,
    /// Another such file [default: the same]
    after: Option<PathBuf>,
    /// Compare this report of the first file, counted from 1 [default: the last, or with one file the first]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    before_at: Option<u64>,
    /// Compare this report of the second file [default: the last]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    at: Option<u64>,
    #[command(flatten)]
    show: PlainArgs,
    /// Show at most this many stacks of each kind; 0 shows all
    #[arg(short = 'T', long, value_name = "N", default_value_t = 10)]
    top: usize,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let before_at = args.before_at.or(args.after.is_none().then_some(1));
    let (first, second) = (&args.before, args.after.as_ref().unwrap_or(&args.before));
    if first == second && before_at == args.at {
        usage("both are the same report: choose another with --at, or another file");
    }
    let before = SavedReport::open(first, before_at)?;
    let after = SavedReport::open(second, args.at)?;
    warn_of_tail(before.tail());
    warn_of_tail(after.tail());
    let (before, after) = (before.parts(), after.parts());
    if first == second && before.1.time == after.1.time {
        usage(&format!("{} has only this report: there is nothing to compare it with", first.display()));
    }
    if std::mem::discriminant(&before.1.subject) != std::mem::discriminant(&after.1.subject) {
        usage(&format!(
            "{} and {} cannot be compared: {} and {}",
            first.display(),
            second.display(),
            kind(before.1),
            kind(after.1)
        ));
    }
    let comparison = Comparison { before, after, diff: &diff(before, after), top: args.top };
    let (writer, style) = args.show.open()?;
    let text = if args.show.format == PlainFormat::Text { comparison.text(style) } else { comparison.json() };
    write_whole(writer, &text)?;
    Ok(ExitCode::SUCCESS)
}

/// What a report is of.
fn kind(profile: &Profile) -> &'static str {
    match profile.subject {
        Subject::Processes(_) => "a trace of processes",
        Subject::Kernel(_) => "a trace of the kernel",
        Subject::Heaps(_) => "a scan of heaps",
    }
}
