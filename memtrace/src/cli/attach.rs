//! `memtrace attach`.

use std::{process::ExitCode, time::Instant};

use crate::{
    report::{listed, plan},
    session::{Ending, follow, interrupted},
    sources::process::{Options, Session},
    target::{self, Process, protect_from_oom},
};

use super::{
    block_on,
    cost::DEFAULT_LIMIT,
    message::message,
    options::TraceArgs,
    select::SelectArgs,
    when::{self, WhenArgs},
};

/// Of so many processes, it takes seconds to remove the probes.
const MANY: usize = 50;

/// Options of `memtrace attach`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace attach $(pidof my-server)
  memtrace attach 4123 4124 -i 10s          two processes together
  memtrace attach --follow 4123             a master and its workers, each with its pid
  memtrace attach --follow --merge 4123     the same stacks of all workers as one row
  memtrace attach --name '^nginx'           all processes of this name, and those to come
  memtrace attach --container 3f2a9c0d1e5b  all processes of a container
  memtrace attach 4123 --older 1m -i 3m     every 3 minutes, the blocks older than one minute
  memtrace attach 4123 -z 1MiB -a           list each block of 1 MiB and more
  memtrace attach 4123 -n 1 -f json         one report after 5 s, for a script
  memtrace attach 4123 --when 'growth>1MiB/s for 5m' -d 2m --save leak.mt
                                            no probe until it grows for 5 minutes, then two minutes of tracing

The process is not stopped. Memory allocated before memtrace attached is not counted.
Ctrl-C ends tracing with a last report. With --when, the exit status is 3 if no condition has ever held.")]
pub(super) struct Args {
    #[command(flatten)]
    select: SelectArgs,
    #[command(flatten)]
    trace: TraceArgs,
    #[command(flatten)]
    when: WhenArgs,
    /// For a leak check, stop the process for one scan instead of scanning it three times while it runs. System calls such
    /// as epoll_wait return EINTR then, which not every program expects
    #[arg(long)]
    stop: bool,
}

pub(super) fn main(args: &Args, verbose: bool) -> anyhow::Result<ExitCode> {
    args.trace.check();
    protect_from_oom();
    if args.when.is_waiting() {
        let processes = args.select.which.processes()?;
        let schedule = args.trace.schedule();
        let ends = schedule.count.is_some() || schedule.duration.is_some();
        return when::main(&args.when, processes, args.trace.path(), ends);
    }
    let mut output = args.trace.output()?;
    let start = Instant::now();
    let processes = args.select.which.processes()?;
    let leaks = args.trace.counting.leaks.options(args.stop, false);
    if args.stop {
        message(
            "--stop: each leak check stops the process for a scan; system calls such as epoll_wait may return EINTR",
        );
    }
    let options = args.trace.options(verbose, processes.len(), Some(DEFAULT_LIMIT), leaks);
    let mut session = open(processes, &args.select, options)?;
    let chosen = session.choose();
    tracing::debug!("attached by {} in {} ms", session.method(), start.elapsed().as_millis());
    let names: Vec<_> =
        session.processes().map(|process| (process.pid.get(), process.comm.as_str())).collect();
    args.trace.announce(&format!("attached to {}", listed(&names)));
    if let Some(chosen) = chosen {
        args.trace.remark(&plan(&chosen));
    }
    block_on(async {
        let ending = follow(&mut session, args.trace.schedule(), &mut output).await?;
        if ending == Ending::Exited {
            message("the target has exited");
        }
        anyhow::Ok(())
    })?;
    let living = session.processes().filter(|process| !process.has_exited()).count();
    if living >= MANY {
        message(&format!("removing the probes of {living} processes"));
    }
    session.detach();
    Ok(ExitCode::SUCCESS)
}

/// Attaches to processes, which were selected that way.
pub(super) fn open(
    processes: Vec<Process>,
    select: &SelectArgs,
    options: Options,
) -> anyhow::Result<Session> {
    let (follow, selector) = (select.follow, select.which.selector());
    let is_selected = !selector.is_empty();
    let mut session = Session::new(Options { follow, select: selector, ..options }, message)?;
    session.prepare();
    let (number, mut ended) = (processes.len(), Vec::new());
    for process in processes {
        if process.is_stopped() {
            message(&format!(
                "process {} is stopped: it allocates nothing until it is continued",
                process.pid
            ));
        }
        if interrupted() {
            break;
        }
        let pid = process.pid;
        let Err(error) = session.attach(process) else { continue };
        // Of many, some may have no allocator, or may just have ended.
        if is_selected && !select.which.pids.contains(&pid.get()) {
            message(&format!("nothing is traced of process {pid} yet: {error:#}"));
        } else if Process::open(pid.get()).is_err_and(|gone| gone.is_gone()) {
            ended.push((pid, error));
        } else {
            return Err(error);
        }
    }
    if ended.len() == number
        && let Some((_, error)) = ended.pop()
    {
        return Err(error);
    }
    for (pid, _) in ended {
        message(&format!("{}: the others are traced", target::Error::Exited(pid.get())));
    }
    session.follow_existing();
    Ok(session)
}
