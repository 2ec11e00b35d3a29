//! `cargo xtask bench`: what tracing costs, in one table.
//!
//! Figures of one run compare with each other, not with those of another machine or hour: variants take turns,
//! and each is reported as its median and the range that contains half of its samples. Nothing here fails because
//! something was slow.

mod agent;
mod allocators;
mod attach;
mod budget;
mod build;
mod child;
mod compare;
mod kernel;
mod load;
mod memory;
mod outside;
mod pair;
mod parts;
mod processes;
mod programs;
mod redis;
mod report;
mod saved;
mod scan;
mod stats;
mod variants;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use stats::{Summary, figure};

/// Where `--save` writes.
const SAVED: &str = "BENCHMARKS.md";

/// What to measure.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Topic {
    /// Ns per malloc/free pair: untraced, exact, sampled, empty probes, by other tools
    Pair,
    /// Ns per pair by allocator: glibc, jemalloc, tcmalloc, mimalloc; with return probes and without
    Allocators,
    /// Ns per pair with parts of the kernel side switched off, one at a time
    Parts,
    /// A C++ program, python3, redis-server: exact, sampled, with the default budget, by other tools
    Programs,
    /// Throughput lost by a program that allocates 3 million times a second, by budget
    Budget,
    /// CPU time of a report, and memory, with up to 10,000,000 live blocks
    Memory,
    /// Time from starting memtrace to having every probe in place
    Attach,
    /// Saved sessions of 10,000 stacks: CPU time of a report with and without --save, sizes, time to read
    Saved,
    /// What each of 50 processes of one program costs the agent: memory, descriptors, CPU time
    Processes,
    /// What scans cost with up to 10,000,000 blocks, and what redis-server notices of them
    Scan,
    /// What kernel mode adds to epoll ADD and DEL, and to create and unlink, compared with bpftrace
    Kernel,
    All,
}

/// Measure what tracing costs (as root, with a C compiler; other tools and programs are used if installed)
///
/// Builds the agent for release and prints one Markdown table.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(value_enum, default_value_t = Topic::All)]
    topic: Topic,
    /// Times that every measurement is repeated, taking turns
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
    /// Another build of memtrace, compared in the same run (topics allocators, processes, saved)
    #[arg(long, value_name = "PROGRAM")]
    against: Option<PathBuf>,
    /// Write BENCHMARKS.md too
    #[arg(long)]
    save: bool,
}

/// The options of every topic.
#[derive(Clone, Copy)]
struct Options {
    runs: u32,
}

/// A line of the table.
struct Row {
    what: String,
    variant: String,
    summary: Summary,
    unit: &'static str,
    note: String,
}

type Measure = fn(&build::Built, Options) -> Result<Vec<Row>>;

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut built = build::Built::new(root)?;
    built.against.clone_from(&args.against);
    let topics: [(Topic, Measure); 11] = [
        (Topic::Pair, pair::run),
        (Topic::Allocators, allocators::run),
        (Topic::Parts, parts::run),
        (Topic::Programs, programs::run),
        (Topic::Budget, budget::run),
        (Topic::Memory, memory::run),
        (Topic::Attach, attach::run),
        (Topic::Saved, saved::run),
        (Topic::Processes, processes::run),
        (Topic::Scan, scan::run),
        (Topic::Kernel, kernel::run),
    ];
    let mut rows = Vec::new();
    for (topic, measure) in topics {
        if args.topic == topic || args.topic == Topic::All {
            rows.extend(measure(&built, Options { runs: args.runs })?);
        }
    }
    let table = table(&rows);
    println!("{table}");
    if args.save {
        let path = root.join(SAVED);
        fs::write(&path, document(&table)?).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("| What | Variant | Median | 25th to 75th percentile | |\n|---|---|--:|--:|---|\n");
    for Row { what, variant, summary, unit, note } in rows {
        let Summary { median, low, high } = *summary;
        let _ = writeln!(
            text,
            "| {what} | {variant} | {} {unit} | {} to {} | {note} |",
            figure(median),
            figure(low),
            figure(high)
        );
    }
    text
}

/// What the rows mean.
const LEGEND: &str = "\
A *pair* is one malloc and one free. *exact*: every allocation counted (`--max-overhead off`). *empty probes*: uprobes whose
programs do nothing, the floor for any uprobe tool. *parts*: exact with a part of the work left out. *programs*: time per
round, or requests per second. Compare figures within this table only, not with figures from another machine.
";

fn document(table: &str) -> Result<String> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").context("the kernel's release")?;
    let cpus = std::thread::available_parallelism().context("the number of CPUs")?;
    Ok(format!(
        "# Benchmarks\n\n\
         Made by `cargo xtask {}` on {}, {cpus} CPUs, Linux {}.\n\n{LEGEND}\n{table}",
        arguments.join(" "),
        processor(&fs::read_to_string("/proc/cpuinfo").context("/proc/cpuinfo")?),
        kernel.trim_end(),
    ))
}

/// The processor's name, if it has one.
fn processor(cpuinfo: &str) -> &str {
    let name = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    name.map_or(std::env::consts::ARCH, |(_, name)| name.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_a_markdown_table() {
        let row = Row {
            what: "pair".into(),
            variant: "untraced".into(),
            summary: Summary { median: 1622.4, low: 6.0, high: 2000.0 },
            unit: "ns",
            note: "n".into(),
        };
        let table = table(&[row]);
        assert_eq!(table.lines().nth(2), Some("| pair | untraced | 1,622 ns | 6.00 to 2,000 | n |"));
    }

    #[test]
    fn the_processor_is_named() {
        assert_eq!(processor("flags\t: x\nmodel name\t: Some CPU @ 3 GHz\n"), "Some CPU @ 3 GHz");
        assert_eq!(processor("CPU part\t: 0xd0c\n"), std::env::consts::ARCH);
    }
}
