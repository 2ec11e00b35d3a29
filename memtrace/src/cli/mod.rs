//! Floor 5: arguments in, exit status out.

mod attach;
mod check;
mod choice;
mod cost;
mod count;
mod demo;
mod diff;
mod format;
mod kernel;
mod leak;
mod manual;
mod memleak;
mod message;
mod options;
mod output;
mod report;
mod run;
mod scan;
mod select;
mod top;
mod triage;
mod when;
mod witness;

use std::{ffi::OsString, io::IsTerminal as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};

use crate::target::{advice_on_files, raise_file_limit};

/// Finds memory leaks in live processes, without restarting or stopping them.
///
/// memtrace attaches to a process with eBPF, counts every allocation and free, and shows which code allocated the
/// memory that was not freed. Needs Linux 5.15 or newer and root.
#[derive(Debug, Parser)]
#[command(name = "memtrace", version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Verbose output on standard error; twice for more
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

const EXAMPLES: &str = "\
Examples:
  memtrace demo                             watch it find a leak
  memtrace attach $(pidof my-server)        every 5 s, what has not been freed
  memtrace top $(pidof my-server)           the same on a live screen
  memtrace attach 4123 --older 60s -i 3m    every 3 min, the blocks older than a minute
  memtrace attach 4123 -d 10m -f json       ten minutes, one JSON object per report
  memtrace triage                           where this machine's memory is, and what grows
  memtrace scan 4123                        what it has lost already, without a probe
  memtrace run -- ./my-program --its-args   from the first allocation on
  memtrace attach 4123 --save leak.mt       save every report, for `memtrace report` and `diff`
  memtrace kernel --by cache                which of the kernel's slab caches grow
  memtrace check --pid 4123                 what this machine and this process support";

#[derive(Debug, Subcommand)]
enum Command {
    /// Trace live processes
    Attach(attach::Args),
    /// Watch live processes on a screen: what leaks, who, how fast; open rows, sort, filter, mark moments
    Top(top::Args),
    /// Start a command, traced from its first allocation
    Run(run::Args),
    /// Scan live processes once, without a probe: what is in use, kept free, and lost, from whenever it is
    Scan(scan::Args),
    /// Look at the memory of the whole machine, without a probe: what grows, which limit is near, what to do next
    Triage(triage::Args),
    /// Trace kernel allocations
    Kernel(kernel::Args),
    /// Show a saved report again
    Report(report::Args),
    /// Compare two saved reports: what grew, what is new, what is gone
    Diff(diff::Args),
    /// Start a small program that leaks, and find the leak
    Demo(demo::Args),
    /// Check what the kernel, your privileges and a process allow
    Check(check::Args),
    /// Drop-in replacement for bcc's memleak, with its options and output
    Memleak(memleak::Args),
    /// Print a script that completes command lines of memtrace
    Completions(manual::CompletionArgs),
    /// Print a page of the manual
    Man(manual::ManArgs),
    /// The program that `demo` traces
    #[command(hide = true)]
    DemoLeaker,
    /// The process that reads files for names of functions; started by memtrace itself
    #[command(hide = true)]
    Symbolizer {
        /// The agent's process
        #[arg(hide = true)]
        agent: i32,
    },
}

/// How this program is started to read files for the names of functions.
const NAMES: crate::symbolize::Program = crate::symbolize::Program { command: "symbolizer" };

/// Exit status for an invalid command line.
const USAGE: u8 = 2;

/// Runs the command line of this process.
#[must_use]
pub fn main() -> ExitCode {
    crate::session::hold_marking();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if called_memleak(&arguments) {
        arguments =
            ["memtrace".into(), "memleak".into()].into_iter().chain(arguments.into_iter().skip(1)).collect();
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return usage_error(&error),
    };
    log_to_stderr(cli.verbose);
    raise_file_limit();
    let verbose = cli.verbose > 0;
    let result = match cli.command {
        Command::Attach(args) => attach::main(&args, verbose),
        Command::Top(args) => top::main(&args, verbose),
        Command::Run(args) => run::main(&args, verbose),
        Command::Scan(args) => scan::main(&args),
        Command::Triage(args) => triage::main(&args),
        Command::Kernel(args) => kernel::main(&args),
        Command::Report(args) => report::main(&args),
        Command::Diff(args) => diff::main(&args),
        Command::Demo(args) => demo::main(&args, verbose),
        Command::Check(args) => check::main(&args),
        Command::Memleak(args) => memleak::main(&args, verbose),
        Command::Completions(args) => manual::completions(&args, &Cli::command()),
        Command::Man(args) => manual::man(&args, &Cli::command()),
        Command::DemoLeaker => demo::leaker(),
        Command::Symbolizer { agent } => {
            crate::symbolize::serve(agent);
            Ok(ExitCode::SUCCESS)
        }
    };
    result.unwrap_or_else(|error| {
        if error.downcast_ref::<crate::session::Closed>().is_some() {
            return ExitCode::SUCCESS;
        }
        tracing::debug!("{error:#}");
        // Whatever could not be done for want of descriptors, nothing else is wrong with it.
        message::message(&advice_on_files(error.chain()).unwrap_or_else(|| one_line(&error)));
        ExitCode::FAILURE
    })
}

/// Shows help or version if requested; otherwise prints in one line what is wrong.
fn usage_error(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
    }
    let text = error.render().to_string();
    let what: Vec<&str> =
        text.lines().map_while(|line| Some(line.trim()).filter(|line| !line.is_empty())).collect();
    let what = what.join(" ");
    message::message(&format!("{} (see --help)", what.strip_prefix("error: ").unwrap_or(&what)));
    ExitCode::from(USAGE)
}

/// Whether the program was called by the name of bcc's tool.
fn called_memleak(arguments: &[OsString]) -> bool {
    arguments
        .first()
        .is_some_and(|name| std::path::Path::new(name).file_stem().is_some_and(|stem| stem == "memleak"))
}

/// An error and its causes, without those that the previous one quotes.
fn causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// An error and its causes, without line breaks (a verifier's message has thousands).
fn one_line(error: &anyhow::Error) -> String {
    let text = causes(error);
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or_default().to_owned();
    if lines.next().is_some() { format!("{first} (-v shows more)") } else { first }
}

fn log_to_stderr(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "warn,memtrace=debug,memtrace_ebpf=debug",
        _ => "info,memtrace=trace,memtrace_ebpf=debug,aya=debug",
    };
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(std::io::stderr)
        .without_time()
        .try_init();
}

/// Runs a future on this thread: memtrace mostly waits for the kernel and computes little.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use super::{Cli, Command, called_memleak};
    use clap::{CommandFactory as _, Parser as _};

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_of_run_end_where_the_command_begins() {
        let parsed = |line: &str| {
            let Command::Run(args) = Cli::try_parse_from(line.split(' ')).unwrap().command else { panic!() };
            args.command.join(std::ffi::OsStr::new(" ")).into_string().unwrap()
        };
        assert_eq!(parsed("memtrace run -n1 -i 1s -- ls -n2"), "ls -n2");
        assert_eq!(parsed("memtrace run -n 1 ls -l -n2 --top 3"), "ls -l -n2 --top 3");
        assert!(Cli::try_parse_from(["memtrace", "run", "--no-such-option", "--", "ls"]).is_err());
    }

    #[test]
    fn memleak_is_a_name_too() {
        assert!(called_memleak(&["/usr/sbin/memleak".into()]));
        assert!(called_memleak(&["memleak.py".into()]));
        assert!(!called_memleak(&["memtrace".into(), "memleak".into()]));
        assert!(!called_memleak(&[]));
    }
}
