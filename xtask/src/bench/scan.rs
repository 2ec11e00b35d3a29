//! What a scan costs by the number of blocks, and what a server notices of it.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde::Deserialize;

use crate::process;

use super::build::Built;
use super::child::{Fixture, Running};
use super::load::Load as _;
use super::memory::{cpu_time, field, milliseconds};
use super::redis::Redis;
use super::stats::{Summary, figure};
use super::{Options, Row};

/// Bytes of a block, as requested: 5 million are 1 GiB.
const SIZE: &str = "200";
const CASES: [(u64, &str); 4] =
    [(100_000, "100,000"), (1_000_000, "1,000,000"), (5_000_000, "5,000,000"), (10_000_000, "10,000,000")];
/// A case with more blocks is measured once.
const MANY: u64 = 5_000_000;
/// Time between two looks at the agent: what it takes after the last one is not seen.
const LOOK: Duration = Duration::from_millis(3);

/// How it scans.
const WAYS: [(&str, &[&str]); 2] =
    [("`scan --stop`: one scan", &["--stop"]), ("`scan`: three while it runs", &[])];

/// Keys that the server has, and requests of one measurement: about a second.
const KEYS: u64 = 1_000_000;
const REQUESTS: u64 = 40_000;

/// What the agent says.
#[derive(Deserialize)]
struct Report {
    heap: Heap,
}

#[derive(Deserialize)]
struct Heap {
    in_use: Amount,
    lost: Amount,
    scan: Scan,
}

#[derive(Deserialize)]
struct Amount {
    blocks: u64,
}

#[derive(Deserialize)]
struct Scan {
    scans: u32,
    bytes_read: u64,
}

/// Ms of CPU time, MiB.
#[derive(Default)]
struct Samples {
    cpu: Vec<f64>,
    peak: Vec<f64>,
    /// What the last one said.
    note: String,
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (blocks, name) in CASES {
        let mut target = Fixture::start(Command::new(&built.heap).arg(SIZE))?;
        target.ask(blocks)?;
        let mut samples: [Samples; 2] = Default::default();
        let runs = if blocks > MANY { 1 } else { options.runs };
        for _ in 0..runs {
            for ((_, words), samples) in WAYS.iter().zip(&mut samples) {
                samples
                    .measure(built, target.pid(), words, blocks)
                    .with_context(|| format!("{name} blocks"))?;
            }
        }
        for ((way, _), samples) in WAYS.iter().zip(&samples) {
            rows.extend(samples.rows(name, way)?);
        }
    }
    if Redis::is_installed() {
        rows.extend(latency(built, options)?);
    } else {
        eprintln!("redis is not installed: left out");
    }
    Ok(rows)
}

impl Samples {
    fn measure(&mut self, built: &Built, pid: u32, words: &[&str], blocks: u64) -> Result<()> {
        let mut command = Command::new(&built.agent);
        command.args(["scan", "-f", "json", "-T", "1"]).args(words).arg(pid.to_string());
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut agent = Running::spawn(&mut command)?;
        let (mut cpu, mut peak) = (Duration::ZERO, 0.0_f64);
        // The report is one line, which fits into the pipe.
        while !agent.has_ended() {
            cpu = cpu_time(agent.id()).map_or(cpu, |now| now.max(cpu));
            let status = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).unwrap_or_default();
            peak = peak.max(field(&status, "VmHWM").unwrap_or_default());
            thread::sleep(LOOK);
        }
        let out = agent.0.stdout.take().context("the agent's output")?;
        let report: Report = serde_json::from_str(&std::io::read_to_string(out)?).context("a report")?;
        let Heap { in_use, lost, scan } = report.heap;
        ensure!(in_use.blocks >= blocks, "{} of {blocks} blocks found", in_use.blocks);
        ensure!(lost.blocks == blocks / 1000, "{} of {} blocks lost", lost.blocks, blocks / 1000);
        let cpu = milliseconds(cpu);
        let mebibytes = scan.bytes_read as f64 / f64::from(1 << 20);
        self.note = format!(
            "{} ns per block and scan, {} MiB/s",
            figure(cpu * 1e6 / blocks as f64 / f64::from(scan.scans)),
            figure(mebibytes / cpu * 1e3)
        );
        self.cpu.push(cpu);
        self.peak.push(peak / 1024.0);
        Ok(())
    }

    fn rows(&self, blocks: &str, way: &str) -> Result<Vec<Row>> {
        let row = |what: &str, samples: &[f64], unit, note: &str| {
            anyhow::Ok(Row {
                what: format!("scan: {what}, {blocks} blocks of {SIZE} bytes"),
                variant: way.to_owned(),
                summary: Summary::of(samples).context("no samples")?,
                unit,
                note: note.to_owned(),
            })
        };
        Ok(vec![
            row("agent's CPU", &self.cpu, "ms", &self.note)?,
            row("agent, resident at most", &self.peak, "MiB", "")?,
        ])
    }
}

/// Latency of a server's requests, in µs, unscanned and while one scan follows the other. One client, so that a processor is
/// left for the scans where there are two.
fn latency(built: &Built, options: Options) -> Result<Vec<Row>> {
    let server = Redis::start(1)?;
    server.fill(KEYS)?;
    let mut samples: [[Vec<f64>; 3]; 2] = Default::default();
    for _ in 0..options.runs {
        for (scanned, samples) in samples.iter_mut().enumerate() {
            let measured = if scanned == 1 {
                scanning(built, server.pid(), || server.latency(KEYS, REQUESTS))?
            } else {
                server.latency(KEYS, REQUESTS)?
            };
            for (samples, figure) in samples.iter_mut().zip(measured) {
                samples.push(figure);
            }
        }
    }
    let mut rows = Vec::new();
    for (place, what) in ["p50", "p99", "mean"].into_iter().enumerate() {
        for (name, samples) in ["unscanned", "one `scan` after the other"].iter().zip(&samples) {
            let summary = Summary::of(&samples[place]).context("no samples")?;
            rows.push(Row {
                what: format!("scan: redis-server with {KEYS} keys, latency of SET, {what}"),
                variant: (*name).to_owned(),
                summary,
                unit: "us",
                note: String::new(),
            });
        }
    }
    Ok(rows)
}

/// Measures while a process is scanned again and again.
fn scanning<T>(built: &Built, pid: u32, measure: impl FnOnce() -> Result<T>) -> Result<T> {
    let ends = AtomicBool::new(false);
    let scan = || {
        while !ends.load(Ordering::Relaxed) {
            let mut command = process::command(&built.agent);
            process::capture(command.args(["scan", "-f", "json", "-T", "1"]).arg(pid.to_string()))?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let scans = scope.spawn(scan);
        let measured = measure();
        ends.store(true, Ordering::Relaxed);
        let scanned: Result<()> = scans.join().map_err(|_panic| anyhow!("a scan panicked"))?;
        scanned.and(measured)
    })
}
