//! `memtrace kernel`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
    time::Instant,
};

use anyhow::Context as _;
use clap::ValueEnum;
use memtrace_common::KernelKind;

use crate::{
    bpf::KernelConfig,
    kernel::{self, open_cgroup},
    profile::units::{parse_duration, parse_size},
    profile::{self, Selection},
    session::{Output, Schedule, follow},
    sources::kernel::{KernelOptions, KernelSession},
};

use super::{
    block_on,
    count::check_sizes,
    message::usage,
    options::{ReportArgs, Sort, parse_pid},
};

/// What is shown of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum By {
    /// Stacks.
    Stack,
    /// Slab caches.
    Cache,
}

impl From<By> for profile::By {
    fn from(by: By) -> Self {
        match by {
            By::Stack => Self::Stack,
            By::Cache => Self::Cache,
        }
    }
}

/// Options of `memtrace kernel`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace kernel                            slab and per-CPU memory, a report every 5 s
  memtrace kernel --by cache -i 1m           which caches grow
  memtrace kernel --cache 'dentry,kmalloc-*' only these caches
  memtrace kernel --pages --vmalloc          only pages and vmalloc areas, without user memory
  memtrace kernel --pid 4123 --older 1m      what the kernel allocated while a process ran

Allocations made before tracing began are unknown. Some frees have no tracepoint: memtrace finds them in the kernel's
lists of free objects, and does not count these objects as outstanding.")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(super) struct Args {
    /// Trace slab memory: kmalloc and caches (default)
    #[arg(long)]
    slab: bool,
    /// Trace pages, without user memory and page cache
    #[arg(long)]
    pages: bool,
    /// Trace per-CPU memory (default)
    #[arg(long)]
    percpu: bool,
    /// Trace vmalloc areas (needs Linux 6.3)
    #[arg(long)]
    vmalloc: bool,
    /// Trace only slab caches with these names; * and ? are wildcards
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    cache: Vec<String>,
    /// Trace only what is allocated while these processes run (interrupts included)
    #[arg(short, long, value_name = "PID", value_delimiter = ',', value_parser = parse_pid)]
    pid: Vec<u32>,
    /// Trace only what is allocated while processes of this cgroup run: a directory in the cgroup v2 file system
    #[arg(long, value_name = "PATH")]
    cgroup: Option<PathBuf>,
    /// Show stacks or caches
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = By::Stack)]
    by: By,
    #[command(flatten)]
    report: ReportArgs,
    /// Show at most this many rows; 0 shows all
    #[arg(short = 'T', long, value_name = "N", default_value_t = 10)]
    top: usize,
    /// Count only objects at least this old
    #[arg(short, long, value_name = "TIME", value_parser = parse_duration)]
    older: Option<Duration>,
    /// Track only objects of at least this size, as allocated (100, 4KiB)
    #[arg(short = 'z', long, value_name = "SIZE", value_parser = parse_size)]
    min_size: Option<u64>,
    /// Track only objects of at most this size
    #[arg(short = 'Z', long, value_name = "SIZE", value_parser = parse_size)]
    max_size: Option<u64>,
    /// Sort rows by this, largest first
    #[arg(long, value_enum, default_value_t = Sort::Bytes)]
    sort: Sort,
    /// List the objects of each stack shown: address, size, age
    #[arg(short = 'a', long)]
    show_allocs: bool,
    /// Track at most this many live objects, at about 30 bytes of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=200_000_000))]
    max_live: u32,
    /// Track at most this many distinct stacks, at 64 bytes of kernel memory each
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    max_stacks: u32,
    /// Walk every stack instead of recognizing known ones, for comparison
    #[arg(long, hide = true)]
    walk_all: bool,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    check_sizes(args.min_size, args.max_size);
    let selection =
        Selection { sort: args.sort.into(), top: args.top, by: args.by.into(), ..Selection::default() };
    let output = args.report.output(selection, false)?;
    let start = Instant::now();
    let mut session = KernelSession::new(options(args)?)?;
    tracing::debug!("attached in {} ms", start.elapsed().as_millis());
    args.report.announce("tracing the kernel");
    run(&mut session, args.report.schedule(), output)
}

/// Follows a session of kernel mode to its end.
pub(super) fn run(
    session: &mut KernelSession,
    schedule: Schedule,
    mut output: Output,
) -> anyhow::Result<ExitCode> {
    block_on(follow(session, schedule, &mut output))?;
    Ok(ExitCode::SUCCESS)
}

fn options(args: &Args) -> anyhow::Result<KernelOptions> {
    let asked = [
        (args.slab, KernelKind::Slab),
        (args.pages, KernelKind::Page),
        (args.percpu, KernelKind::Percpu),
        (args.vmalloc, KernelKind::Vmalloc),
    ];
    let mut kinds: Vec<KernelKind> =
        asked.into_iter().filter(|(asked, _)| *asked).map(|(_, kind)| kind).collect();
    if kinds.is_empty() {
        kinds = if args.cache.is_empty() { KernelConfig::default().kinds } else { vec![KernelKind::Slab] };
    }
    if !args.cache.is_empty() && kinds != [KernelKind::Slab] {
        usage("--cache is for slab memory: other kinds have no caches");
    }
    if args.show_allocs && args.by == By::Cache {
        usage("--show-allocs lists the objects of stacks and cannot be used with --by cache");
    }
    if let Some(pid) = args.pid.iter().find(|pid| !Path::new(&format!("/proc/{pid}")).is_dir()) {
        anyhow::bail!("no process has the pid {pid}: `ps -e` lists all");
    }
    let pid_namespace = kernel::pid_namespace(&args.pid)?;
    let cgroup = match &args.cgroup {
        None => None,
        Some(path) => {
            Some(Arc::new(open_cgroup(path).with_context(|| format!("--cgroup {}", path.display()))?))
        }
    };
    Ok(KernelOptions {
        config: KernelConfig {
            kinds,
            max_live: args.max_live,
            max_stacks: args.max_stacks,
            min_size: args.min_size.unwrap_or(0),
            max_size: args.max_size.unwrap_or(u64::MAX),
            caches: None,
            tasks: args.pid.clone(),
            pid_namespace,
            cgroup,
            memo: !args.walk_all,
        },
        caches: args.cache.clone(),
        older: args.older,
        cgroup: args.cgroup.as_ref().map(|path| path.display().to_string()),
        show_allocs: args.show_allocs,
    })
}
