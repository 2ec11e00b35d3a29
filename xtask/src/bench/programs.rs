//! What tracing costs programs that people run: a C++ program of many small objects, Python, Redis.

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use super::build::{Built, is_installed};
use super::compare::{Outcome, Plan, Start, compare, fixture, median};
use super::load::Load;
use super::outside::Wrapper;
use super::redis::Redis;
use super::stats::{Summary, figure};
use super::variants::{Variant, available};
use super::{Options, Row};

const WINDOW: Duration = Duration::from_secs(1);
const WINDOWS: u32 = 2;
/// The distribution's: another may bring an allocator of its own.
pub(super) const PYTHON: &str = "/usr/bin/python3";
/// Requests that Redis's client sends before it waits for answers.
const PIPELINES: [u32; 2] = [16, 1];

const OURS: [Variant; 4] = [Variant::Untraced, Variant::Exact, Variant::Sampled, Variant::Default];
const ALL: [Variant; 7] = [
    Variant::Untraced,
    Variant::Exact,
    Variant::Sampled,
    Variant::Default,
    Variant::Bpftrace,
    Variant::Under(Wrapper::Heaptrack),
    Variant::Under(Wrapper::Valgrind),
];

/// How a cost is told.
#[derive(Clone, Copy)]
enum Unit {
    Microseconds,
    PerSecond,
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let plan = |variants| Plan { built, variants, runs: options.runs, windows: WINDOWS, window: WINDOW };
    let all = available(&ALL);
    let mut rows = Vec::new();
    let mut measure = |what: &str, unit, start: Start<'_>, variants| {
        let outcomes = compare(start, plan(variants))?;
        rows.extend(outcomes.iter().map(|outcome| row(what, unit, outcome, &outcomes)));
        anyhow::Ok(())
    };
    if let Some(objects) = &built.objects {
        let start: Start<'_> = &|wrapper| fixture(&mut Command::new(objects), wrapper);
        measure("C++: a map of lists of strings", Unit::Microseconds, start, &all)?;
    }
    if is_installed(PYTHON) {
        // Its own allocator would keep small blocks from malloc.
        let start: Start<'_> =
            &|wrapper| fixture(Command::new(PYTHON).arg(&built.json).env("PYTHONMALLOC", "malloc"), wrapper);
        measure("python3: JSON, written and read", Unit::Microseconds, start, &OURS)?;
    } else {
        eprintln!("{PYTHON} is not installed: left out");
    }
    if Redis::is_installed() {
        for pipeline in PIPELINES {
            let start: Start<'_> = &|_| Ok(Box::new(Redis::start(pipeline)?) as Box<dyn Load>);
            measure(&format!("redis-server: SET, `-P {pipeline}`"), Unit::PerSecond, start, &OURS)?;
        }
    } else {
        eprintln!("redis-server or redis-benchmark is not installed: left out");
    }
    Ok(rows)
}

fn row(what: &str, unit: Unit, outcome: &Outcome, all: &[Outcome]) -> Row {
    let untraced = median(all, Variant::Untraced).filter(|_| outcome.variant != Variant::Untraced);
    let slower = untraced.map(|untraced| format!("{} times as slow", figure(outcome.cost.median / untraced)));
    let note = slower.into_iter().chain(outcome.mode.clone()).collect::<Vec<_>>().join("; ");
    let (summary, unit) = unit.tell(outcome.cost);
    Row { what: format!("programs: {what}"), variant: outcome.variant.name(), summary, unit, note }
}

impl Unit {
    /// From ns per operation.
    fn tell(self, Summary { median, low, high }: Summary) -> (Summary, &'static str) {
        match self {
            Self::Microseconds => (Summary { median: median / 1e3, low: low / 1e3, high: high / 1e3 }, "µs"),
            Self::PerSecond => (Summary { median: 1e9 / median, low: 1e9 / high, high: 1e9 / low }, "/s"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_sample_is_the_lowest_rate() {
        let cost = Summary { median: 2000.0, low: 1000.0, high: 4000.0 };
        let rate = Summary { median: 5e5, low: 2.5e5, high: 1e6 };
        assert_eq!(Unit::PerSecond.tell(cost), (rate, "/s"));
        assert_eq!(Unit::Microseconds.tell(cost), (Summary { median: 2.0, low: 1.0, high: 4.0 }, "µs"));
    }
}
