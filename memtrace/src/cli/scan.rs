//! `memtrace scan`.

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use jiff::Timestamp;

use crate::{
    profile::{
        Dictionary, Heap, HeapRows, Seen, Selection,
        units::{format_bytes, parse_duration},
    },
    report::escape,
    session::{Names, Output, hold_signals, release_signals, wait_for_signal},
    sources::process::{LeakOptions, Progress, ScanOptions, Scanner, When},
    target::Process,
};

use super::{
    format::ShowArgs,
    message::{message, usage},
    options::parse_count,
    select::WhichArgs,
    witness,
};

/// Scans of less memory are over before anyone asks.
const LONG: u64 = 512 << 20;
/// The least time between two rounds of scans: one takes a second.
const LEAST: Duration = Duration::from_secs(2);

/// Options of `memtrace scan`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  memtrace scan $(pidof my-server)          what is in use, kept free and lost, right now
  memtrace scan --name '^nginx$'            every process of that name
  memtrace scan 4123 -i 60s -n 5            five times, and what grows or becomes lost in between
  memtrace scan 4123 -T 0 -f json           every size of blocks, for a script
  memtrace scan 4123 -d 30s                 traces for 30 s first: who allocates what it loses
  memtrace scan 4123 --save heap.mt         keep it: memtrace report heap.mt, memtrace diff monday.mt heap.mt
  memtrace scan 4123 -f html -O heap.html   a page with everything, for a ticket
  memtrace scan 4123 --no-contents          without texts from the process's memory

Without -d no probe is put into the process, and without --stop it is not stopped: its memory is read up to three times within about
a second, once if nothing looks lost. Blocks are found by the records of glibc's malloc or jemalloc; memory of other allocators
counts as in use, and so does what it points to.")]
pub(super) struct Args {
    #[command(flatten)]
    which: WhichArgs,
    /// Scan again and again, with this time from one round to the next, and show what has changed
    #[arg(short, long, value_name = "TIME", value_parser = parse_interval)]
    interval: Option<Duration>,
    /// Stop after this many rounds [default: 1; with --interval, until Ctrl-C]
    #[arg(short = 'n', long, value_name = "N", value_parser = parse_count)]
    count: Option<u64>,
    /// Trace the processes for this time first, within the budget of `memtrace attach`, and show who allocates blocks of the
    /// sizes that are lost
    #[arg(short, long, value_name = "TIME", value_parser = parse_watch)]
    duration: Option<Duration>,
    /// Show at most this many sizes of blocks; 0 shows all
    #[arg(short = 'T', long, value_name = "N", default_value_t = 10)]
    top: usize,
    #[command(flatten)]
    show: ShowArgs,
    /// Save every report with all sizes of blocks to this file, for `memtrace report` and `memtrace diff`
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Do not show texts that lost blocks hold
    #[arg(long)]
    no_contents: bool,
    /// Look for pointers at any address, as in packed structures, not only at multiples of 8: a scan takes several times
    /// as long
    #[arg(long)]
    unaligned: bool,
    /// Stop the process for one scan instead of scanning it three times while it runs. System calls such as epoll_wait
    /// return EINTR then, which not every program expects
    #[arg(long)]
    stop: bool,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = parse_duration(text)?;
    if interval < LEAST { Err("scans take a second: at least 2s".to_owned()) } else { Ok(interval) }
}

fn parse_watch(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time < LEAST { Err("a leak check takes a second: at least 2s".to_owned()) } else { Ok(time) }
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let count = match (args.count, args.interval) {
        (Some(count), None) if count > 1 => usage(&format!("-n {count} needs an interval: -i 60s")),
        (Some(count), _) => count,
        (None, None) => 1,
        (None, Some(_)) => u64::MAX,
    };
    let selection = Selection { top: args.top, ..Selection::default() };
    let mut output = args.show.output_saved(selection, false, args.save.as_deref())?;
    let processes = args.which.processes()?;
    let watched: Vec<Watched> =
        processes.into_iter().map(|process| Watched { process, before: None }).collect();
    if args.stop {
        message("--stop: each scan stops the process; system calls such as epoll_wait may return EINTR");
    }
    let seen = match args.duration {
        Some(time) => {
            message(&format!("tracing for {} first", humantime::format_duration(time)));
            let leaks = LeakOptions {
                when: When::Always,
                stop: args.stop,
                at_exit: false,
                unaligned: args.unaligned,
                seldom: false,
            };
            Some(witness::watch(&args.which, time, leaks)?)
        }
        None => None,
    };
    let scanner =
        Scanner::new(ScanOptions { unaligned: args.unaligned, stop: args.stop, contents: !args.no_contents });
    if !scanner.reads_registers() {
        message(
            "registers of threads cannot be read without stopping them (Linux 5.15, BTF, root): blocks that only a \
             register points to look lost; --stop reads them",
        );
    }
    let has_failed = rounds(args, count, watched, &Scans { scanner, seen }, &mut output)?;
    output.finish()?;
    Ok(if has_failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Scans as often as asked for, and reports. Returns whether a process could not be scanned to the end.
fn rounds(
    args: &Args,
    count: u64,
    mut watched: Vec<Watched>,
    scans: &Scans,
    output: &mut Output,
) -> anyhow::Result<bool> {
    let (is_alone, mut has_failed) = (watched.len() == 1, false);
    let (mut names, mut rows) = (Names::known(Dictionary::default()), HeapRows::default());
    let begun = Instant::now();
    for round in 1..=count {
        let round_begun = Instant::now();
        let (mut alive, mut heaps) = (Vec::new(), Vec::new());
        for mut one in watched {
            match one.scan(scans) {
                Ok(heap) => {
                    heaps.push(heap);
                    alive.push(one);
                }
                Err(error) if is_alone => return Err(error),
                Err(error) => {
                    has_failed = true;
                    message(&super::one_line(&error));
                }
            }
        }
        if alive.is_empty() {
            bail!("no process is left to scan");
        }
        watched = alive;
        // One that comes during a scan ends the program; but what was found is written.
        hold_signals();
        let moment = (Timestamp::now(), begun.elapsed(), round == count);
        let profile = rows.profile(names.dictionary_mut(), heaps, moment);
        output.report(&mut names, profile)?;
        if let (Some(interval), true) = (args.interval, round < count) {
            if wait_for_signal(interval.saturating_sub(round_begun.elapsed())) {
                break;
            }
            release_signals();
        }
    }
    Ok(has_failed)
}

/// How processes are scanned, and who was seen to allocate.
struct Scans {
    scanner: Scanner,
    seen: Option<Seen>,
}

/// A process that is scanned.
struct Watched {
    process: Process,
    /// What was found last.
    before: Option<Heap>,
}

impl Watched {
    /// Scans the process.
    fn scan(&mut self, scans: &Scans) -> anyhow::Result<Heap> {
        let Process { pid, comm, .. } = &self.process;
        let mut progress = |Progress { scan, bytes }| {
            if bytes >= LONG {
                let size = format_bytes(bytes);
                message(&format!("process {pid} ({}): scan {scan} of {size}", escape(comm)));
            }
        };
        let mut heap = scans.scanner.scan(&self.process, &mut progress)?;
        let before = self.before.replace(heap.clone());
        heap.growth = before.map(|before| Box::new(heap.since(&before)));
        heap.seen = scans.seen.as_ref().map(|seen| Box::new(seen.by(heap.process.pid)));
        Ok(heap)
    }
}
