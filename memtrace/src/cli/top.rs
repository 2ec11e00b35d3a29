//! `memtrace top`.

use std::{process::ExitCode, time::Duration};

use crate::{
    profile::units::parse_duration,
    session::{Ending, Output, Schedule, Screen, follow},
    sources::process::{LeakOptions, When},
    target::protect_from_oom,
};

use super::{
    attach, block_on, cost::DEFAULT_LIMIT, count::CountArgs, message::message, options::Sort,
    select::SelectArgs,
};

/// A picture takes longer to be read.
const SHORTEST: Duration = Duration::from_millis(200);

/// Options of `memtrace top`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace top $(pidof my-server)
  memtrace top --follow 4123                a master and its workers
  memtrace top --container 3f2a9c0d1e5b     all processes of a container
  memtrace top 4123 -i 200ms                five pictures a second
  memtrace top 4123 --sort rate             what grows fastest first

Keys: Enter opens a row (frames, lifetimes, who holds it), s sorts, / filters, Space freezes the screen, m marks this moment
and shows what is allocated since, w saves the report for `memtrace report`, c checks for leaks, ? lists all keys, q quits.
The process is not stopped. Memory allocated before memtrace attached is not counted.")]
pub(super) struct Args {
    #[command(flatten)]
    select: SelectArgs,
    /// Time between two pictures, at least 200 ms (500ms, 5s; a bare number is seconds)
    #[arg(short, long, value_name = "TIME", default_value = "1s", value_parser = parse_refresh)]
    interval: Duration,
    /// Sort rows by this at first, largest first
    #[arg(long, value_enum, default_value_t = Sort::Verdict)]
    sort: Sort,
    #[command(flatten)]
    counting: CountArgs,
}

/// A time between two pictures.
fn parse_refresh(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time < SHORTEST { Err(format!("must be at least {} ms", SHORTEST.as_millis())) } else { Ok(time) }
}

pub(super) fn main(args: &Args, verbose: bool) -> anyhow::Result<ExitCode> {
    args.counting.check();
    protect_from_oom();
    let mut output = Output::on(Screen::new(args.sort.into())?);
    let processes = args.select.which.processes()?;
    let leaks = args.counting.leaks.options(false, false);
    let leaks = LeakOptions { seldom: leaks.when != When::Always, ..leaks };
    let options = args.counting.options(verbose, processes.len(), Some(DEFAULT_LIMIT), leaks);
    let mut session = attach::open(processes, &args.select, options)?;
    let _: Option<_> = session.choose();
    let schedule = Schedule {
        interval: args.interval,
        // What an exited process leaves is there to be read until the user quits.
        count: Some(u64::MAX),
        duration: None,
        outlive: true,
        last_report: false,
    };
    let ending = block_on(follow(&mut session, schedule, &mut output))?;
    if ending == Ending::OverBudget {
        message("tracing has ended: it cost more than its budget in every mode (--max-overhead)");
    }
    Ok(ExitCode::SUCCESS)
}
