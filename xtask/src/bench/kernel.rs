//! What kernel mode costs programs that have the kernel allocate, beside bpftrace with the same in its own words.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::process;

use super::build::{Built, is_installed};
use super::child::{Fixture, Running};
use super::load::mean_over;
use super::stats::{Summary, figure};
use super::{Options, Row};

const WINDOW: Duration = Duration::from_millis(300);
const WINDOWS: u32 = 2;
/// Starts to time in a run.
const STARTS: u32 = 3;

/// What memleak's kernel mode keeps: live pointers, and the stack of each.
const SCRIPT: &str =
    "tracepoint:kmem:kmalloc, tracepoint:kmem:kmem_cache_alloc { @live[args->ptr] = kstack; }
    tracepoint:kmem:kfree, tracepoint:kmem:kmem_cache_free { delete(@live[args->ptr]); }
    interval:ms:100 { printf(\"ready\\n\"); }
    END { clear(@live); }";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Watcher {
    Nobody,
    Memtrace,
    /// Walks every stack.
    Walks,
    Bpftrace,
}

impl Watcher {
    const ALL: [Self; 4] = [Self::Nobody, Self::Memtrace, Self::Walks, Self::Bpftrace];

    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "untraced",
            Self::Memtrace => "`memtrace kernel --slab`",
            Self::Walks => "the same, walking every stack",
            Self::Bpftrace => "bpftrace, live pointers and `kstack`",
        }
    }

    /// Starts it, and returns when it is at work.
    fn start(self, agent: &Path) -> Result<Option<Running>> {
        let (mut command, ready) = match self {
            Self::Nobody => return Ok(None),
            Self::Memtrace | Self::Walks => {
                let mut command = Command::new(agent);
                command.args(["kernel", "--slab", "--interval", "1h"]);
                if self == Self::Walks {
                    command.arg("--walk-all");
                }
                (command, "tracing the kernel")
            }
            Self::Bpftrace => {
                let mut command = process::command("bpftrace");
                // By default it keeps 4,096 keys, and no more after that.
                command.env("BPFTRACE_MAP_KEYS_MAX", "1000000").args(["-B", "line", "-e", SCRIPT]);
                (command, "ready")
            }
        };
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut running = Running::spawn(&mut command)?;
        let (output, errors) = (running.0.stdout.take(), running.0.stderr.take());
        let (output, errors) = output.zip(errors).context("a watcher without output")?;
        if self == Self::Bpftrace {
            await_line(output, ready)?;
        } else {
            await_line(errors, ready)?;
        }
        Ok(Some(running))
    }
}

/// Reads up to a line with `text`; what follows is read too, so that the writer never waits.
fn await_line(stream: impl Read + Send + 'static, text: &str) -> Result<()> {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    if !lines.by_ref().any(|line| line.contains(text)) {
        bail!("a watcher ended before it printed \"{text}\"");
    }
    thread::spawn(move || lines.for_each(drop));
    Ok(())
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let program = built.idle.with_file_name("kernel");
    let source = built.json.with_file_name("kernel.c");
    process::run(
        process::command("cc")
            .args(["-O2", "-Wall", "-Wextra", "-Werror"])
            .arg(source)
            .arg("-o")
            .arg(&program),
    )?;
    let has_bpftrace = is_installed("bpftrace");
    if !has_bpftrace {
        eprintln!("bpftrace is not installed: left out");
    }
    let watchers: Vec<Watcher> =
        Watcher::ALL.into_iter().filter(|watcher| has_bpftrace || *watcher != Watcher::Bpftrace).collect();
    let mut rows = Vec::new();
    for (argument, what) in [("epoll", "kernel: epoll ADD and DEL"), ("files", "kernel: create and unlink")] {
        let mut load = Fixture::start(Command::new(&program).arg(argument))?;
        mean_over(&mut load, WINDOW)?;
        let mut samples = vec![Vec::new(); watchers.len()];
        for _ in 0..options.runs {
            for (watcher, samples) in watchers.iter().zip(&mut samples) {
                let _running = watcher.start(&built.agent).with_context(|| watcher.name())?;
                for _ in 0..WINDOWS {
                    samples.push(mean_over(&mut load, WINDOW)?);
                }
            }
        }
        let summaries: Vec<Summary> = samples
            .iter()
            .map(|samples| Summary::of(samples).context("no samples"))
            .collect::<Result<_>>()?;
        rows.extend(watchers.iter().zip(&summaries).map(|(watcher, summary)| Row {
            what: what.to_owned(),
            variant: watcher.name().to_owned(),
            summary: *summary,
            unit: "ns",
            note: note(*watcher, &watchers, &summaries),
        }));
    }
    rows.push(first_report(built, options)?);
    Ok(rows)
}

/// How long it takes from starting memtrace to its first report, which is asked for at once.
fn first_report(built: &Built, options: Options) -> Result<Row> {
    let mut samples = Vec::new();
    for _ in 0..options.runs * STARTS {
        let mut command = Command::new(&built.agent);
        command.args(["kernel", "--interval", "1ms", "--format", "json"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut running = Running::spawn(&mut command)?;
        await_line(running.0.stdout.take().context("a watcher without output")?, "\"kernel\"")?;
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(Row {
        what: "kernel: from start to first report".to_owned(),
        variant: "`memtrace kernel`".to_owned(),
        summary: Summary::of(&samples).context("no samples")?,
        unit: "ms",
        note: String::new(),
    })
}

/// What a watcher adds, and how that compares with bpftrace.
fn note(watcher: Watcher, watchers: &[Watcher], summaries: &[Summary]) -> String {
    let added = |wanted: Watcher| {
        let median = |wanted| {
            let at = watchers.iter().position(|watcher| *watcher == wanted)?;
            summaries.get(at).map(|summary| summary.median)
        };
        Some(median(wanted)? - median(Watcher::Nobody)?)
    };
    match (watcher, added(watcher), added(Watcher::Bpftrace)) {
        (Watcher::Nobody, ..) | (_, None, _) => String::new(),
        (Watcher::Memtrace | Watcher::Walks, Some(ours), Some(theirs)) if theirs > 0.0 => {
            format!("adds {} ns, {} times what bpftrace adds", figure(ours), figure(ours / theirs))
        }
        (_, Some(added), _) => format!("adds {} ns", figure(added)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_is_compared() {
        let summaries =
            [100.0, 150.0, 300.0, 400.0].map(|median| Summary { median, low: median, high: median });
        let note = |watcher| note(watcher, &Watcher::ALL, &summaries);
        assert_eq!(note(Watcher::Nobody), "");
        assert_eq!(note(Watcher::Memtrace), "adds 50.0 ns, 0.17 times what bpftrace adds");
        assert_eq!(note(Watcher::Bpftrace), "adds 300 ns");
    }
}
