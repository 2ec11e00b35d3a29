//! `memtrace run`.

use std::{ffi::OsString, process::ExitCode, time::Duration};

use anyhow::bail;

use crate::{
    profile::units::format_number,
    report::{escape, listed},
    session::{Closed, Ending, Output, Schedule, Suppressing, follow, release_signals},
    sources::process::{Options, Session},
    target::{Launch, Launched, Process, Progress, User, protect_from_oom},
};

use super::{
    block_on,
    leak::LostArgs,
    message::{message, say},
    options::TraceArgs,
};

/// How long a command is held at its end for a leak check.
const HELD: Duration = Duration::from_secs(600);

/// Options of `memtrace run`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace run -- ./my-program --its-args
  memtrace run -f json -O report.json -- python3 script.py
  sudo memtrace run -- ./server --port 80   runs as you, not as root
  sudo memtrace run --user www-data -- ./server
  memtrace run -- ./start.sh ./server       the server that a script starts; so with timeout, su -c, nice, env
  memtrace run -- ./server --daemon         a daemon; Ctrl-C ends tracing and leaves it running
  memtrace run --no-follow -- make          make itself, not what it starts
  memtrace run --error-exitcode 99 -- ./tests           fails if ./tests loses a block
  memtrace run --gen-suppressions -- ./tests            prints a suppression for each leak that is known by now
  memtrace run --suppressions known.supp -- ./tests     leaves them out from then on

The command keeps its standard input and output, and memtrace exits with its status. What it starts is traced too, and
tracing goes on while any of these processes lives. At its end, however it ends, the command itself is held while its memory
is searched for lost blocks; until then it is traced (ptrace), as under a debugger.")]
pub(super) struct Args {
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    lost: LostArgs,
    /// Trace the command itself, not the processes that it starts
    #[arg(long)]
    no_follow: bool,
    /// Run the command as this user (name or number). Default: the caller of sudo, otherwise you
    #[arg(short, long, value_name = "USER")]
    user: Option<String>,
    /// The command and its arguments
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

pub(super) fn main(args: &Args, verbose: bool) -> anyhow::Result<ExitCode> {
    args.trace.check();
    protect_from_oom();
    let leaks = args.trace.counting.leaks.options(false, true);
    args.lost.check(args.trace.counting.leaks.is_wanted());
    let suppressing = Suppressing::new(args.lost.suppressions()?, args.lost.gen_suppressions);
    let output = args.trace.output()?.without(suppressing);
    let user = match &args.user {
        Some(name) => Some(User::find(name)?),
        None => User::behind_sudo()?,
    };
    let launch = Launch::new(args.command.clone(), user);
    let follow = !args.no_follow;
    // A status that is about the command itself says nothing about one whose blocks cannot be seen.
    let needs_allocator = !follow || args.lost.error_exitcode.is_some();
    let mut session =
        Session::new(Options { follow, ..args.trace.options(verbose, 1, None, leaks) }, message)?;
    let hold = args.trace.counting.leaks.is_wanted().then_some(HELD);
    let launched = start(&mut session, &launch, hold, needs_allocator)?;
    if !session.has_allocator() {
        message(&format!(
            "{} has no allocator that memtrace knows: waiting for a process that it starts and that has one",
            escape(&launch.name())
        ));
    }
    args.trace.announce(&format!("started {} (process {})", escape(&launch.name()), launched.id()));
    let mut output = output;
    let status = wait_out(&mut session, launched, args.trace.schedule(), &mut output, true)?;
    let suppressing = output.suppressing();
    let used = suppressing.used();
    if !used.is_empty() {
        message(used.trim_end());
    }
    for line in suppressing.generated() {
        say(line);
    }
    if args.lost.error_exitcode.is_some() && suppressing.forks() > 0 {
        message(&format!(
            "--error-exitcode is about the command itself: of {} that it started, it is not known what they lost",
            count_processes(suppressing.forks())
        ));
    }
    Ok(ExitCode::from(args.lost.status(suppressing.lost(), status)))
}

fn count_processes(number: u64) -> String {
    let noun = if number == 1 { "process" } else { "processes" };
    format!("{} {noun}", format_number(number))
}

/// Starts a command with probes in place before its first allocation. `hold`: how long at most to hold it at its end, for a
/// leak check. `needs_allocator`: whether it is not run without an allocator that is known.
pub(super) fn start(
    session: &mut Session,
    launch: &Launch,
    hold: Option<Duration>,
    needs_allocator: bool,
) -> anyhow::Result<Launched> {
    let mut launched = launch.start()?;
    let Some(pid) = launched.pid() else { bail!("the command has no process id") };
    session.add_command(Process::open(pid.get())?)?;
    loop {
        session.attach_new(pid)?;
        if launched.step()? == Progress::Ready {
            break;
        }
    }
    session.attach_new(pid)?;
    session.warn_of_profilers(pid);
    if needs_allocator && !session.has_allocator() {
        bail!(
            "{} has no allocator that memtrace knows: neither the program nor its libraries define malloc and free (is it \
             static and stripped?)",
            launch.name()
        );
    }
    match hold {
        Some(limit) => {
            let hold = launched.release_until_exit(limit)?;
            session.hold_at_exit(hold);
        }
        None => launched.release()?,
    }
    Ok(launched)
}

/// Follows a command to the end of the session and, if `wait`, to its own end. Returns its exit status.
pub(super) fn wait_out(
    session: &mut Session,
    launched: Launched,
    schedule: Schedule,
    output: &mut Output,
    wait: bool,
) -> anyhow::Result<u8> {
    let ending = block_on(follow(session, schedule, output));
    session.release();
    session.detach();
    let left =
        session.processes().filter(|process| !process.has_exited() && process.pid.get() != launched.id());
    let left: Vec<_> = left.map(|process| (process.pid.get(), process.comm.as_str())).collect();
    if let Err(error) = ending {
        if wait && error.downcast_ref::<Closed>().is_some() {
            return Ok(launched.wait());
        }
        return Err(error);
    }
    if !wait {
        return Ok(0);
    }
    // From here on, a signal ends memtrace immediately.
    release_signals();
    if !matches!(ending, Ok(Ending::Exited)) && launched.exit_status().is_none() {
        message(&format!("tracing has ended, waiting for the command (process {})", launched.id()));
    }
    if !left.is_empty() {
        message(&format!("tracing has ended, and left running: {}", listed(&left)));
    }
    Ok(launched.wait())
}
