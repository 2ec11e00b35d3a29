//! `memtrace demo`.

mod leaker;

use std::{process::ExitCode, time::Duration};

use crate::{
    bpf::Config,
    profile::Selection,
    report::Text,
    session::{Keep, Output, Schedule, follow},
    sources::process::{LeakOptions, Options, Session, When},
    target::{Launch, Process, User},
};

use super::{block_on, message::message, output::OutputArgs};

pub(super) use leaker::main as leaker;

/// Options of `memtrace demo`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    output: OutputArgs,
}

/// Time between the two reports.
const INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn main(args: &Args, verbose: bool) -> anyhow::Result<ExitCode> {
    let (writer, style) = args.output.open(Keep::All)?;
    let reporter = Text::new(style, jiff::tz::TimeZone::system());
    let selection = Selection { top: 3, ..Selection::default() };
    let mut output = Output::new(Box::new(reporter), writer, selection);
    let options = Options {
        config: Config { max_live: 100_000, verbose, ..Config::default() },
        leaks: LeakOptions { when: When::Auto, ..LeakOptions::default() },
        names: Some(super::NAMES),
        ..Options::default()
    };
    let mut session = Session::new(options, message)?;
    let program = std::env::current_exe()?;
    let launch = Launch::new(vec![program.into_os_string(), "demo-leaker".into()], User::behind_sudo()?);
    let mut leaker = launch.start()?;
    leaker.release()?;
    let ended = trace(&mut session, leaker.id(), &mut output);
    leaker.kill();
    ended?;
    message(
        "found: `leak_session` (4 KiB each time) and `leak_log_line` (120 bytes), the function marked > in its stack above; `work` frees what it allocates and is not listed",
    );
    message(
        "next: memtrace attach $(pidof your-server)    or: memtrace run -- ./your-program    (memtrace --help)",
    );
    Ok(ExitCode::SUCCESS)
}

/// Attaches to the leaker, which is running by now, as to any other process.
fn trace(session: &mut Session, pid: u32, output: &mut Output) -> anyhow::Result<()> {
    leaker::wait_until_running(pid);
    session.attach(Process::open(pid)?)?;
    message(&format!(
        "started a program that leaks (process {pid}) and attached to it: two reports, {} s apart",
        INTERVAL.as_secs()
    ));
    let schedule =
        Schedule { interval: INTERVAL, count: Some(2), duration: None, outlive: false, last_report: true };
    block_on(follow(session, schedule, output))?;
    Ok(())
}
