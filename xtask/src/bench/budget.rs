//! Whether a budget is kept with a program that does little but allocate, and a leak in it is still found.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::agent::{Chosen, Limit};
use super::build::Built;
use super::child::Fixture;
use super::report::Report;
use super::stats::{Summary, percent};
use super::{Options, Row};

/// In percent.
const BUDGETS: [u32; 3] = [2, 5, 20];
/// Blocks that the program allocates in a second of its CPU time, untraced.
const RATE: &str = "3000000";
/// Blocks that it holds at any time, beside what it leaks.
const HELD: &str = "64";
/// The function that leaks.
const LEAK: &str = "keep_one";

/// The window with an agent, long enough for one that attaches now and then.
const TRACED: Duration = Duration::from_secs(8);
/// Before and behind each traced window.
const UNTRACED: Duration = Duration::from_millis(2500);

/// Blocks allocated per second.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Throughput {
    of_cpu: f64,
    of_clock: f64,
}

/// What came of a budget.
#[derive(Default)]
struct Samples {
    lost_cpu: Vec<f64>,
    lost_clock: Vec<f64>,
    found: u32,
    mode: String,
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let mut fixture = Fixture::start(Command::new(&built.busy).args([RATE, HELD]))?;
    fixture.line()?;
    let mut untraced = Vec::new();
    let mut samples: [Samples; 3] = Default::default();
    for _ in 0..options.runs {
        for (&budget, samples) in BUDGETS.iter().zip(&mut samples) {
            let before = work(&mut fixture, UNTRACED)?;
            let (traced, report, mode) =
                traced(built, &mut fixture, budget).with_context(|| format!("a budget of {budget} %"))?;
            let after = work(&mut fixture, UNTRACED)?;
            samples.lost_cpu.push(lost(traced.of_cpu, [before.of_cpu, after.of_cpu]));
            samples.lost_clock.push(lost(traced.of_clock, [before.of_clock, after.of_clock]));
            samples.found += u32::from(report.is_first(LEAK));
            samples.mode = mode;
            untraced.extend([before.of_cpu, after.of_cpu].map(|rate| rate / 1e6));
        }
    }
    let mut rows = vec![Row {
        what: "budget: blocks allocated per CPU second".to_owned(),
        variant: "untraced".to_owned(),
        summary: Summary::of(&untraced).context("no samples")?,
        unit: "million",
        note: format!("holds {HELD} blocks, leaks one of 2,048 in `{LEAK}`"),
    }];
    for (budget, samples) in BUDGETS.iter().zip(&samples) {
        rows.push(samples.row(*budget, options.runs)?);
    }
    Ok(rows)
}

/// Percent of what was done just before and just after.
fn lost(traced: f64, [before, after]: [f64; 2]) -> f64 {
    (1.0 - 2.0 * traced / (before + after)) * 100.0
}

impl Samples {
    fn row(&self, budget: u32, runs: u32) -> Result<Row> {
        let clock = Summary::of(&self.lost_clock).context("no samples")?;
        let note = format!(
            "{}; lost per wall-clock second {}; `{LEAK}` first in {} of {runs}",
            self.mode,
            percent(clock.median / 100.0),
            self.found
        );
        Ok(Row {
            what: "budget: throughput lost per CPU second".to_owned(),
            variant: format!("`--max-overhead {budget}%`"),
            summary: Summary::of(&self.lost_cpu).context("no samples")?,
            unit: "%",
            note,
        })
    }
}

/// The throughput with an agent that has chosen, its last report, and how it traced.
fn traced(built: &Built, fixture: &mut Fixture, budget: u32) -> Result<(Throughput, Report, String)> {
    let limit = Limit::Percent(budget);
    let chosen = Chosen::attach(&built.agent, fixture.pid(), limit, |time| work(fixture, time).map(drop))?;
    let throughput = work(fixture, TRACED)?;
    let (report, mode) = chosen.end()?;
    Ok((throughput, report, mode))
}

fn work(fixture: &mut Fixture, time: Duration) -> Result<Throughput> {
    let answer = fixture.ask(time.as_millis().try_into().unwrap_or(u64::MAX))?;
    throughput(&answer).with_context(|| format!("the busy program answered {answer:?}"))
}

/// From blocks, ns of CPU time and ns of the clock.
fn throughput(answer: &str) -> Option<Throughput> {
    let mut numbers = answer.split(' ').map(str::parse::<f64>);
    let mut next = || numbers.next()?.ok();
    let (blocks, cpu, clock) = (next()?, next()?, next()?);
    Some(Throughput { of_cpu: blocks / cpu * 1e9, of_clock: blocks / clock * 1e9 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told_of_the_mean() {
        assert_eq!(lost(1.5, [1.0, 3.0]), 25.0);
        assert_eq!(lost(2.5, [2.0, 2.0]), -25.0);
    }

    #[test]
    fn an_answer_is_blocks_and_two_times() {
        let expected = Throughput { of_cpu: 2e6, of_clock: 1e6 };
        assert_eq!(throughput("1000 500000 1000000"), Some(expected));
        assert_eq!(throughput("1000 500000"), None);
        assert_eq!(throughput("ready"), None);
    }
}
