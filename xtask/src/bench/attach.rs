//! How long it takes from starting memtrace to having every probe in place.

use std::time::Instant;

use anyhow::{Context, Result};

use super::stats::Summary;
use super::target::{Agent, Fixture, Programs};
use super::{Options, Row};

/// Attachments to each process in a run.
const PER_RUN: u32 = 3;

pub(super) fn run(programs: &Programs, options: Options) -> Result<Vec<Row>> {
    let mut small = Fixture::start(&programs.idle, [""; 0])?;
    let mut large = Fixture::start(&programs.idle, &programs.libraries)?;
    small.line()?;
    large.line()?;
    let (mut to_small, mut to_large) = (Vec::new(), Vec::new());
    // The first one reads the program from disk.
    attach(programs, &small)?;
    for _ in 0..options.runs * PER_RUN {
        to_small.push(attach(programs, &small)?);
        to_large.push(attach(programs, &large)?);
    }
    Ok(vec![
        row("a small process".to_owned(), &to_small)?,
        row(format!("a process with {} more mapped files", programs.libraries.len()), &to_large)?,
    ])
}

/// Milliseconds.
fn attach(programs: &Programs, target: &Fixture) -> Result<f64> {
    let start = Instant::now();
    let _agent = Agent::attach(&programs.agent, target.pid(), ["-i", "1h"])?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn row(variant: String, samples: &[f64]) -> Result<Row> {
    let summary = Summary::of(samples).context("no samples")?;
    let fastest = samples.iter().copied().fold(f64::INFINITY, f64::min);
    let note = format!("fastest {fastest:.0} ms");
    Ok(Row { what: "attach: from start to attached".to_owned(), variant, summary, unit: "ms", note })
}
