//! `memtrace triage`.

use std::{
    io::{BufWriter, Write as _},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    profile::units::parse_duration,
    report::{Json, Text, TriageView},
    session::settle,
    sources::triage::Observer,
};

use super::{
    format::{PlainArgs, PlainFormat},
    options::parse_count,
};

/// The shortest interval: growth is told by the difference of two looks.
const LEAST: Duration = Duration::from_millis(100);

/// Options of `memtrace triage`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace triage                           where memory is, what grows in 5 s, and the next command
  memtrace triage -i 60s                    slower growth
  memtrace triage -i 10s -n 0 -O box.txt    every 10 s until Ctrl-C, into a file
  memtrace triage -f json | jq .triage.grown[0]

Only files of /proc and /sys are read: nothing is traced or stopped. The first three lines are the answer: what GROWS, which
LIMIT is reached first and whom the OOM killer would take, the NEXT command. What an ordinary user cannot see is listed as
missing.")]
pub(super) struct Args {
    /// Time in which growth is looked for
    #[arg(short, long, value_name = "TIME", default_value = "5s", value_parser = parse_interval)]
    interval: Duration,
    /// Stop after this many reports; 0: never
    #[arg(short = 'n', long, value_name = "N", default_value = "1", value_parser = parse_reports)]
    count: u64,
    /// Show at most this many places; 0 shows all
    #[arg(short = 'T', long, value_name = "N", default_value_t = 8)]
    top: usize,
    #[command(flatten)]
    show: PlainArgs,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < LEAST { Err("at least 100ms".to_owned()) } else { Ok(interval) }
}

fn parse_reports(text: &str) -> Result<u64, String> {
    if text == "0" { Ok(u64::MAX) } else { parse_count(text) }
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let (writer, style) = args.show.open()?;
    let mut output = BufWriter::with_capacity(1 << 16, writer);
    let mut observer = Observer::new().context("cannot look at this machine's memory")?;
    for round in 1..=args.count {
        let triage = observer.after(args.interval).context("cannot look at this machine's memory")?;
        let view =
            TriageView { triage: &triage, time: Timestamp::now(), last: round == args.count, top: args.top };
        let written = match args.show.format {
            PlainFormat::Text => Text::new(style, TimeZone::system()).triage(&mut output, &view),
            PlainFormat::Json => Json.triage(&mut output, &view),
        };
        settle(written.and_then(|()| output.flush()))?;
    }
    Ok(ExitCode::SUCCESS)
}
