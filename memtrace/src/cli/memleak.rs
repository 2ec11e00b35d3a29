//! `memtrace memleak`: bcc memleak's options and text.

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::Context as _;
use clap::ValueEnum;
use memtrace_common::KernelKind;

use crate::{
    allocators::{Choice, parse_prefix},
    bpf::{Config, KernelConfig},
    profile::{Selection, SortBy},
    report::{Memleak, MemleakOptions},
    session::{Keep, Output, Schedule, follow},
    sources::{
        kernel::{KernelOptions, KernelSession},
        process::{Options, Placement, Session},
    },
    target::{Launch, Process},
};

use super::{
    block_on, kernel,
    message::{message, usage},
    options::parse_count,
    output::open_output,
    run,
};

/// bcc's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum SortKey {
    /// Outstanding bytes.
    Size,
    /// Outstanding blocks.
    Count,
}

/// Options of bcc's memleak.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace memleak -p $(pidof allocs)       summary of outstanding allocations every 5 seconds
  memtrace memleak -p $(pidof allocs) -t    every allocation and free
  memtrace memleak -ap $(pidof allocs) 10   with addresses and sizes, every 10 seconds
  memtrace memleak -c './allocs arg' 1 3    run a command, three reports
  memtrace memleak                          the kernel's slab and page allocations
  memtrace memleak --percpu                 the kernel's per-CPU allocations")]
#[expect(clippy::struct_excessive_bools, reason = "bcc's switches")]
pub(super) struct Args {
    /// The process to trace; without it and without -c the kernel is traced
    #[arg(short, long, value_name = "PID", conflicts_with = "command")]
    pid: Option<u32>,
    /// Print each allocation and free
    #[arg(short, long)]
    trace: bool,
    /// Show addresses and sizes of blocks
    #[arg(short = 'a', long)]
    show_allocs: bool,
    /// Leave out blocks younger than this, in milliseconds
    #[arg(short, long, value_name = "MS", default_value_t = 500)]
    older: u64,
    /// Run a command and trace it; quotes work as in a shell
    #[arg(short, long)]
    command: Option<String>,
    /// Show totals only
    #[arg(long)]
    combined_only: bool,
    /// Accepted and ignored: memtrace always counts a block as freed once its address is handed out again
    #[arg(long)]
    wa_missing_free: bool,
    /// Accepted and ignored: memtrace counts every allocation
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    sample_rate: u64,
    /// Show at most this many stacks
    #[arg(short = 'T', long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Track only allocations of at least this many bytes
    #[arg(short = 'z', long, value_name = "BYTES")]
    min_size: Option<u64>,
    /// Track only allocations of at most this many bytes
    #[arg(short = 'Z', long, value_name = "BYTES")]
    max_size: Option<u64>,
    /// Trace only the allocator in this file of the process: a path, or the name of a library (`c`). By default all are traced
    #[arg(short = 'O', long, value_name = "OBJECT")]
    obj: Option<String>,
    /// Print to this file instead of standard output (-)
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Trace the kernel's per-CPU allocations instead of slab and pages
    #[arg(long)]
    percpu: bool,
    /// Sort stacks by this, largest first
    #[arg(long, value_enum, default_value_t = SortKey::Size)]
    sort: SortKey,
    /// Trace PREFIXmalloc, PREFIXfree and their like, and nothing else
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    symbols_prefix: Option<String>,
    /// Seconds between two reports
    #[arg(default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=315_360_000))]
    interval: u64,
    /// Stop after this many reports
    #[arg(value_parser = parse_count)]
    count: Option<u64>,
}

pub(super) fn main(args: &Args, verbose: bool) -> anyhow::Result<ExitCode> {
    if args.min_size.unwrap_or(0) > args.max_size.unwrap_or(u64::MAX) {
        usage("min_size (-z) can't be greater than max_size (-Z)");
    }
    if args.sample_rate > 1 {
        message("every allocation is counted: -s has no effect");
    }
    if let Some(command) = &args.command {
        return run_command(args, command, verbose);
    }
    let Some(pid) = args.pid else {
        if args.obj.is_some() || args.symbols_prefix.is_some() {
            usage("-O and --symbols-prefix are about a process: they need -p or -c");
        }
        return trace_kernel(args);
    };
    let mut output = output(args)?;
    let process = Process::open(pid)?;
    let mut session = Session::new(options(args, verbose), message)?;
    session.attach(process)?;
    output.say(&format!("Attaching to pid {pid}, Ctrl+C to quit."))?;
    block_on(follow(&mut session, schedule(args), &mut output))?;
    Ok(ExitCode::SUCCESS)
}

fn run_command(args: &Args, command: &str, verbose: bool) -> anyhow::Result<ExitCode> {
    let words = shell_words::split(command).context("-c: the command's quotes do not match")?;
    if words.is_empty() {
        usage("-c: the command is empty");
    }
    let mut output = output(args)?;
    output.say(&format!("Executing '{command}' and tracing the resulting process."))?;
    let launch = Launch::new(words.into_iter().map(Into::into).collect(), None);
    let mut session = Session::new(options(args, verbose), message)?;
    let launched = run::start(&mut session, &launch, None, true)?;
    run::wait_out(&mut session, launched, schedule(args), &mut output, false)?;
    Ok(ExitCode::SUCCESS)
}

/// bcc's kernel mode: slab and pages together, or per-CPU memory.
fn trace_kernel(args: &Args) -> anyhow::Result<ExitCode> {
    if args.trace {
        message("-t works for processes only, as the kernel has too many events: printing reports instead");
    }
    let mut output = output(args)?;
    let kinds = if args.percpu { vec![KernelKind::Percpu] } else { vec![KernelKind::Slab, KernelKind::Page] };
    let mut session = KernelSession::new(KernelOptions {
        cgroup: None,
        config: KernelConfig {
            kinds,
            min_size: args.min_size.unwrap_or(0),
            max_size: args.max_size.unwrap_or(u64::MAX),
            ..KernelConfig::default()
        },
        caches: Vec::new(),
        older: Some(Duration::from_millis(args.older)),
        show_allocs: args.show_allocs,
    })?;
    output.say("Attaching to kernel allocators, Ctrl+C to quit.")?;
    kernel::run(&mut session, schedule(args), output)
}

fn sort(args: &Args) -> SortBy {
    match args.sort {
        SortKey::Size => SortBy::Bytes,
        SortKey::Count => SortBy::Blocks,
    }
}

fn options(args: &Args, verbose: bool) -> Options {
    Options {
        config: Config {
            min_size: args.min_size.unwrap_or(0),
            max_size: args.max_size.unwrap_or(u64::MAX),
            trace: args.trace,
            verbose,
            ..Config::default()
        },
        older: Some(Duration::from_millis(args.older)),
        show_allocs: args.show_allocs,
        names: Some(super::NAMES),
        placement: Placement { choice: choice(args).into(), ..Placement::default() },
        ..Options::default()
    }
}

/// In bcc, both say where the only functions are that are traced.
fn choice(args: &Args) -> Choice {
    Choice {
        objects: args.obj.iter().cloned().collect(),
        prefixes: args.symbols_prefix.iter().cloned().collect(),
        only_named: args.symbols_prefix.is_some(),
        ..Choice::default()
    }
}

fn schedule(args: &Args) -> Schedule {
    Schedule {
        interval: Duration::from_secs(args.interval),
        count: args.count,
        duration: None,
        outlive: true,
        last_report: false,
    }
}

fn output(args: &Args) -> anyhow::Result<Output> {
    let options = MemleakOptions {
        top: args.top,
        show_allocs: args.show_allocs,
        combined_only: args.combined_only,
        zone: jiff::tz::TimeZone::system(),
    };
    let selection = Selection { sort: sort(args), top: args.top, ..Selection::default() };
    let (writer, _) = open_output(args.output.as_deref(), Keep::All)?;
    Ok(Output::new(Box::new(Memleak::new(options)), writer, selection))
}
