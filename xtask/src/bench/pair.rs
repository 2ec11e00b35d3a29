//! What a malloc/free pair costs, by who is watching.

use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::stats::{Summary, figure};
use super::target::{Agent, Bpftrace, Fixture, Programs};
use super::{Options, Row};

/// Length of a measured batch.
const BATCH: Duration = Duration::from_millis(60);
/// Batches of each variant in a run.
const BATCHES: usize = 4;
/// How long bpftrace may take to place its probes.
const BPFTRACE_READY: Duration = Duration::from_secs(20);

/// Program, frames, threads.
#[derive(Clone, Copy)]
struct Shape {
    frame_pointers: bool,
    frames: u32,
    threads: u32,
}

const SHAPES: [Shape; 5] = [
    Shape { frame_pointers: true, frames: 4, threads: 1 },
    Shape { frame_pointers: true, frames: 22, threads: 1 },
    Shape { frame_pointers: false, frames: 4, threads: 1 },
    Shape { frame_pointers: false, frames: 22, threads: 1 },
    Shape { frame_pointers: true, frames: 4, threads: 2 },
];

#[derive(Clone, Copy, PartialEq)]
enum Variant {
    Untraced,
    Memtrace,
    /// The caller alone: everything but the walk.
    Caller,
    /// The kernel's own walk at the same place, on top of that.
    Kernel,
    FirstByte,
    Bpftrace,
}

const VARIANTS: [(Variant, &str); 6] = [
    (Variant::Untraced, "untraced"),
    (Variant::Memtrace, "`memtrace attach`"),
    (Variant::Caller, "`--stacks caller`: no walk"),
    (Variant::Kernel, "`--stacks kernel`: `bpf_get_stackid`"),
    (Variant::FirstByte, "`--first-byte`: the naive places"),
    (Variant::Bpftrace, "bpftrace, `ustack`"),
];

/// What watches a process meanwhile.
enum Watcher {
    None,
    Agent { _agent: Agent },
    Bpftrace { _bpftrace: Bpftrace },
}

pub(super) fn run(programs: &Programs, options: Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let bpftrace = Bpftrace::is_there();
    if !bpftrace {
        eprintln!("bpftrace is not installed: left out");
    }
    let variants: Vec<_> =
        VARIANTS.into_iter().filter(|(variant, _)| bpftrace || *variant != Variant::Bpftrace).collect();
    for shape in SHAPES {
        rows.extend(measure(programs, shape, &variants, options.runs)?);
    }
    Ok(rows)
}

/// Every variant in turn on one process, as many times as there are runs.
fn measure(
    programs: &Programs,
    shape: Shape,
    variants: &[(Variant, &'static str)],
    runs: u32,
) -> Result<Vec<Row>> {
    let program = if shape.frame_pointers { &programs.pair } else { &programs.pair_omit };
    let mut fixture = Fixture::start(program, [shape.frames.to_string(), shape.threads.to_string()])?;
    let mut samples = vec![Vec::new(); variants.len()];
    for _ in 0..runs {
        for ((variant, _), samples) in variants.iter().zip(&mut samples) {
            let _watcher = watch(&programs.agent, &mut fixture, *variant)?;
            samples.extend(batches(&mut fixture)?);
        }
    }
    let what = format!(
        "pair: {} frames {} frame pointers, {} thread{}",
        shape.frames,
        if shape.frame_pointers { "with" } else { "without" },
        shape.threads,
        if shape.threads == 1 { "" } else { "s" }
    );
    let summaries: Vec<Option<Summary>> = samples.iter().map(|samples| Summary::of(samples)).collect();
    let median_of = |wanted: Variant| {
        let at = variants.iter().position(|(variant, _)| *variant == wanted)?;
        summaries.get(at).copied().flatten().map(|summary| summary.median)
    };
    let ours = median_of(Variant::Memtrace);
    let floor = median_of(Variant::Caller);
    let walk = |median: f64| floor.map(|floor| median - floor);
    let mut rows = Vec::new();
    for ((variant, name), summary) in variants.iter().zip(&summaries) {
        let summary = summary.context("no samples")?;
        let note = match (variant, ours) {
            (Variant::FirstByte | Variant::Bpftrace, Some(ours)) => {
                format!("memtrace costs {} of it", figure(ours / summary.median))
            }
            (Variant::Memtrace, _) => {
                walk(summary.median).map(|ns| format!("the walk adds {ns:.0} ns")).unwrap_or_default()
            }
            (Variant::Kernel, Some(ours)) => match (walk(ours), walk(summary.median)) {
                (Some(ours), Some(kernel)) if kernel > 0.0 => {
                    format!("the walk costs {} of `bpf_get_stackid`'s {kernel:.0} ns", figure(ours / kernel))
                }
                _ => String::new(),
            },
            _ => String::new(),
        };
        rows.push(Row { what: what.clone(), variant: (*name).to_owned(), summary, unit: "ns", note });
    }
    Ok(rows)
}

fn watch(agent: &Path, fixture: &mut Fixture, variant: Variant) -> Result<Watcher> {
    let quiet = ["-i", "1h"];
    let naive = ["-i", "1h", "--first-byte"];
    Ok(match variant {
        Variant::Untraced => Watcher::None,
        Variant::Memtrace => Watcher::Agent { _agent: Agent::attach(agent, fixture.pid(), quiet)? },
        Variant::Caller => Watcher::Agent {
            _agent: Agent::attach(agent, fixture.pid(), ["-i", "1h", "--stacks", "caller"])?,
        },
        Variant::Kernel => Watcher::Agent {
            _agent: Agent::attach(agent, fixture.pid(), ["-i", "1h", "--stacks", "kernel"])?,
        },
        Variant::FirstByte => Watcher::Agent { _agent: Agent::attach(agent, fixture.pid(), naive)? },
        Variant::Bpftrace => Watcher::Bpftrace { _bpftrace: start_bpftrace(fixture)? },
    })
}

/// Started and, by what a pair costs, in place.
fn start_bpftrace(fixture: &mut Fixture) -> Result<Bpftrace> {
    let untraced = pairs(fixture, 1000)?;
    let mut bpftrace = Bpftrace::start(fixture.pid())?;
    let deadline = Instant::now() + BPFTRACE_READY;
    while pairs(fixture, 1000)? < 20.0 * untraced {
        if let Some(complaint) = bpftrace.complaint() {
            bail!("bpftrace: {complaint}");
        }
        if Instant::now() > deadline {
            bail!("bpftrace placed no probe in {} s", BPFTRACE_READY.as_secs());
        }
        sleep(Duration::from_millis(20));
    }
    // The first of its probes slows a pair down; the others take a moment more.
    sleep(Duration::from_millis(700));
    Ok(bpftrace)
}

fn batches(fixture: &mut Fixture) -> Result<Vec<f64>> {
    // Warms up, and tells how many pairs make a batch.
    let expected = pairs(fixture, 2000)?;
    let count = (BATCH.as_nanos() as f64 / expected.max(1.0)).clamp(2_000.0, 10_000_000.0) as u64;
    (0..BATCHES).map(|_| pairs(fixture, count)).collect()
}

/// Ns per pair.
fn pairs(fixture: &mut Fixture, count: u64) -> Result<f64> {
    let answer = fixture.ask(count)?;
    answer.parse().with_context(|| format!("the pair loop answered {answer:?}"))
}
