//! Variants that take turns on one program.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::agent::{Agent, Chosen, Limit};
use super::build::Built;
use super::child::Fixture;
use super::load::{Load, mean_over};
use super::outside::{Bpftrace, Wrapper};
use super::stats::Summary;
use super::variants::Variant;

/// A window for an agent with a budget: it may attach for a part of the time only.
const LONG_WINDOW: Duration = Duration::from_secs(4);

/// How a program is measured.
#[derive(Clone, Copy)]
pub(super) struct Plan<'a> {
    pub(super) built: &'a Built,
    pub(super) variants: &'a [Variant],
    pub(super) runs: u32,
    /// Each gives a sample.
    pub(super) windows: u32,
    pub(super) window: Duration,
}

/// What a variant costs.
pub(super) struct Outcome {
    pub(super) variant: Variant,
    /// Ns per operation.
    pub(super) cost: Summary,
    /// The agent's last mode, if it chose one.
    pub(super) mode: Option<String>,
}

/// A program that may run under another.
pub(super) type Start<'a> = &'a dyn Fn(Option<Wrapper>) -> Result<Box<dyn Load>>;

/// Every variant in turn on one process, as many times as there are runs.
pub(super) fn compare(start: Start<'_>, plan: Plan<'_>) -> Result<Vec<Outcome>> {
    let variants = plan.variants;
    let mut load = start(None)?;
    // The first window warms the program up.
    mean_over(load.as_mut(), plan.window)?;
    let mut samples = vec![(Vec::new(), None); variants.len()];
    for _ in 0..plan.runs {
        for (&variant, (samples, mode)) in variants.iter().zip(&mut samples) {
            let (more, said) =
                watched(start, load.as_mut(), plan, variant).with_context(|| variant.name())?;
            samples.extend(more);
            *mode = said;
        }
    }
    let outcome = |(&variant, (samples, mode)): (&Variant, (Vec<f64>, Option<String>))| {
        let cost = Summary::of(&samples).context("no samples")?;
        Ok(Outcome { variant, cost, mode })
    };
    variants.iter().zip(samples).map(outcome).collect()
}

/// Samples of a variant, and the agent's mode.
fn watched(
    start: Start<'_>,
    load: &mut dyn Load,
    plan: Plan<'_>,
    variant: Variant,
) -> Result<(Vec<f64>, Option<String>)> {
    let agent = match &plan.built.against {
        Some(other) if variant == Variant::Against => other,
        _ => &plan.built.agent,
    };
    match (variant, variant.agent()) {
        (_, Some((Limit::Off, mut options))) => {
            options.extend(["-i", "1h"]);
            let _agent = Agent::attach(agent, load.pid(), Limit::Off, &options)?;
            Ok((windows(load, plan)?, None))
        }
        (_, Some((limit, _))) => {
            let pid = load.pid();
            let chosen = Chosen::attach(agent, pid, limit, |time| mean_over(load, time).map(drop))?;
            let samples = vec![mean_over(load, LONG_WINDOW.max(plan.window))?];
            Ok((samples, Some(chosen.end()?.1)))
        }
        (Variant::Bpftrace, _) => {
            let _bpftrace = Bpftrace::start(load)?;
            Ok((windows(load, plan)?, None))
        }
        (Variant::Under(wrapper), _) => Ok((windows(start(Some(wrapper))?.as_mut(), plan)?, None)),
        _ => Ok((windows(load, plan)?, None)),
    }
}

fn windows(load: &mut dyn Load, plan: Plan<'_>) -> Result<Vec<f64>> {
    // Not counted: code and tables become warm.
    load.cost(load.least())?;
    (0..plan.windows).map(|_| mean_over(load, plan.window)).collect()
}

/// A fixture that answers what an operation cost; with a directory for the tool that it runs under.
pub(super) fn fixture(command: &mut Command, wrapper: Option<Wrapper>) -> Result<Box<dyn Load>> {
    let Some(wrapper) = wrapper else {
        return Ok(Box::new(Fixture::start(command)?));
    };
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let mut fixture = Fixture::start(&mut wrapper.around(command, &directory))?;
    fixture.await_number(10)?;
    Ok(Box::new(Wrapped { fixture, _directory: directory }))
}

/// Dropped in this order: what the tool writes last goes to the directory.
struct Wrapped {
    fixture: Fixture,
    _directory: tempfile::TempDir,
}

impl Load for Wrapped {
    fn pid(&self) -> u32 {
        self.fixture.pid()
    }

    fn cost(&mut self, operations: u64) -> Result<f64> {
        self.fixture.cost(operations)
    }
}

/// The median cost of a variant.
pub(super) fn median(outcomes: &[Outcome], variant: Variant) -> Option<f64> {
    outcomes.iter().find(|outcome| outcome.variant == variant).map(|outcome| outcome.cost.median)
}
