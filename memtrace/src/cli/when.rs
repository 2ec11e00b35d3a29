//! `memtrace attach --when`: waits for a condition, and starts memtrace again to trace then.

use std::{
    ffi::OsString,
    path::Path,
    process::{Child, Command, ExitCode, ExitStatus},
    time::{Duration, Instant},
};

use anyhow::Context as _;

use crate::{
    analysis::when::Condition,
    profile::units::parse_duration,
    session::{hold_signals, unheld, wait_for_signal},
    sources::waiting::{Waiter, Woken},
    target::{Process, without_protection},
};

use super::message::{message, usage};

/// Exit status if no condition has ever held.
const NEVER: u8 = 3;
/// How long is traced if the options do not say.
const USUAL: &str = "60s";
/// Time between two looks at the memtrace that traces.
const STEP: Duration = Duration::from_millis(200);
/// Time between two looks whether there are processes, while no condition is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Options of waiting.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct WhenArgs {
    /// Wait without a probe until this holds, then trace (for 60 s, without -d and -n), and wait again: 'rss>2GiB',
    /// 'growth>1MiB/s for 5m', 'psi>10%', 'limit<10%'. Of several, one has to hold
    #[arg(long, value_name = "COND", value_parser = Condition::parse)]
    when: Vec<Condition>,
    /// After tracing, do not look for conditions for this time
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration, requires = "when")]
    cooldown: Duration,
    /// Run this with `sh -c` after each tracing; $1 is the file of --save, or else of -O
    #[arg(long, value_name = "CMD", requires = "when")]
    exec: Option<String>,
}

impl WhenArgs {
    /// Whether something is waited for.
    pub(super) fn is_waiting(&self) -> bool {
        !self.when.is_empty()
    }
}

/// Waits and traces until all processes have ended, or a signal ends it. `report`: the file with the reports. `ends`: whether
/// options say when tracing ends.
pub(super) fn main(
    args: &WhenArgs,
    processes: Vec<Process>,
    report: Option<&Path>,
    ends: bool,
) -> anyhow::Result<ExitCode> {
    if args.exec.is_some() && report.is_none() {
        usage("--exec needs a file with the report: --save FILE or -O FILE");
    }
    hold_signals();
    let mut waiter = Waiter::new(processes, args.when.clone());
    let mut has_fired = false;
    let conditions: Vec<String> = args.when.iter().map(ToString::to_string).collect();
    message(&format!("waiting for {}", conditions.join(" or ")));
    loop {
        match waiter.wait(wait_for_signal) {
            Woken::Interrupted => break,
            Woken::Ended => {
                message("all processes have ended");
                break;
            }
            Woken::Holds(pid, condition) => {
                has_fired = true;
                message(&format!("{condition} holds for process {pid}: tracing"));
                let (status, is_interrupted) = trace(ends)?;
                if !status.success() {
                    message(&format!("tracing failed ({status})"));
                    return Ok(ExitCode::FAILURE);
                }
                if let (Some(command), Some(report)) = (&args.exec, report) {
                    execute(command, report);
                }
                if is_interrupted {
                    break;
                }
                if !waiter.has_ended() {
                    let pause = humantime::format_duration(args.cooldown);
                    message(&format!("waiting again in {pause} (--cooldown; Ctrl-C ends)"));
                }
                if cools_down(&waiter, args.cooldown) {
                    break;
                }
            }
        }
    }
    Ok(if has_fired { ExitCode::SUCCESS } else { ExitCode::from(NEVER) })
}

/// Traces with another process: this one stays as small as it is, and keeps nothing of it.
fn trace(ends: bool) -> anyhow::Result<(ExitStatus, bool)> {
    let mut arguments = without_waiting(std::env::args_os().skip(1));
    if !ends {
        arguments.extend(["--duration".into(), USUAL.into()]);
    }
    let child = without_protection(Command::new("/proc/self/exe").args(arguments)).spawn();
    let mut child = child.context("cannot start memtrace again")?;
    let mut is_interrupted = false;
    loop {
        if let Some(status) = child.try_wait().context("cannot wait for the memtrace that traces")? {
            return Ok((status, is_interrupted));
        }
        if wait_for_signal(STEP) {
            is_interrupted = true;
            interrupt(&child);
        }
    }
}

/// Waits for so long, while there are processes. Returns whether a signal came.
fn cools_down(waiter: &Waiter, time: Duration) -> bool {
    let end = Instant::now() + time;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || waiter.has_ended() {
            return false;
        }
        if wait_for_signal(left.min(LOOK)) {
            return true;
        }
    }
}

/// Ends it with a last report. It may have got the signal itself already.
fn interrupt(child: &Child) {
    if let Ok(pid) = i32::try_from(child.id()) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGINT);
    }
}

/// The arguments without those that wait.
fn without_waiting(arguments: impl Iterator<Item = OsString>) -> Vec<OsString> {
    const NAMES: [&str; 3] = ["--when", "--cooldown", "--exec"];
    let mut kept = Vec::new();
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        let text = argument.to_string_lossy();
        if NAMES.contains(&text.as_ref()) {
            // Its value.
            arguments.next();
        } else if !NAMES.iter().any(|name| text.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
        {
            kept.push(argument);
        }
    }
    kept
}

/// Runs the user's command with the report's path.
fn execute(command: &str, report: &Path) {
    let mut shell = Command::new("sh");
    shell.args(["-c", command, "memtrace"]).arg(report);
    let status = unheld(without_protection(&mut shell)).status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => message(&format!("--exec: {status}")),
        Err(error) => message(&format!("--exec: cannot start sh: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::without_waiting;

    #[test]
    fn the_other_options_stay() {
        let line =
            "attach 4123 --when rss>2GiB -d 5s --when=psi>10% --exec x --cooldown=1m -O f --cooldown 5 -v";
        let kept = without_waiting(line.split(' ').map(Into::into));
        assert_eq!(kept.join(std::ffi::OsStr::new(" ")), "attach 4123 -d 5s -O f -v");
    }
}
