//! `memtrace run`.

use std::{ffi::OsString, process::ExitCode};

use anyhow::bail;
use nix::sys::signal::{SigHandler, Signal};

use crate::{
    report::escape,
    session::{Closed, Ending, Output, Schedule, follow},
    sources::process::Session,
    target::{Launch, Launched, Process, Progress, User},
};

use super::{block_on, message::message, options::TraceArgs};

/// Options of `memtrace run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace run -- ./my-program --its-args
  memtrace run -f json -O report.json -- python3 script.py
  sudo memtrace run -- ./server --port 80   runs as you, not as root
  sudo memtrace run --user www-data -- ./server

The command keeps its standard input and output, and memtrace exits with its status.")]
pub(super) struct Args {
    #[command(flatten)]
    trace: TraceArgs,
    /// Run the command as this user (name or number). Default: the caller of sudo, otherwise you
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

pub(super) fn main(args: &Args, verbose: bool) -> anyhow::Result<ExitCode> {
    args.trace.check()?;
    let output = args.trace.output()?;
    let user = match &args.user {
        Some(name) => Some(User::find(name)?),
        None => User::behind_sudo()?,
    };
    let launch = Launch::new(args.command.clone(), user);
    let mut session = Session::new(args.trace.options(verbose, 1, None), message)?;
    let launched = start(&mut session, &launch)?;
    args.trace.announce(&format!("started {} (process {})", escape(&launch.name()), launched.id()));
    wait_out(&mut session, launched, args.trace.schedule(), output, true)
}

/// Starts a command with probes in place before its first allocation.
pub(super) fn start(session: &mut Session, launch: &Launch) -> anyhow::Result<Launched> {
    let mut launched = launch.start()?;
    let Some(pid) = launched.pid() else { bail!("the command has no process id") };
    session.add(Process::open(pid.get())?)?;
    let mut allocators = 0;
    loop {
        allocators += session.attach_new(pid)?;
        if launched.step()? == Progress::Ready {
            break;
        }
    }
    allocators += session.attach_new(pid)?;
    session.warn_of_profilers(pid);
    if allocators == 0 {
        bail!(
            "{} has no allocator that memtrace knows: neither the program nor its libraries define malloc and free (is it \
             static and stripped?)",
            launch.name()
        );
    }
    launched.release()?;
    Ok(launched)
}

/// Follows a command to the end of the session and, if `wait`, to its own end. Returns its exit status.
pub(super) fn wait_out(
    session: &mut Session,
    launched: Launched,
    schedule: Schedule,
    mut output: Output,
    wait: bool,
) -> anyhow::Result<ExitCode> {
    let ending = block_on(follow(session, schedule, &mut output));
    session.detach();
    if let Err(error) = ending {
        if wait && error.downcast_ref::<Closed>().is_some() {
            return Ok(ExitCode::from(launched.wait()));
        }
        return Err(error);
    }
    if !wait {
        return Ok(ExitCode::SUCCESS);
    }
    // From here on, a signal ends memtrace immediately.
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        // SAFETY: the default action, no handler.
        let _ = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) };
    }
    if !matches!(ending, Ok(Ending::Exited)) && launched.exit_status().is_none() {
        message(&format!("tracing has ended, waiting for the command (process {})", launched.id()));
    }
    Ok(ExitCode::from(launched.wait()))
}
