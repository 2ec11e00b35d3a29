//! What each process costs the agent, where it follows many of one program.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use super::agent::{Agent, Limit};
use super::build::{Built, is_installed};
use super::compare::fixture;
use super::load::Load;
use super::memory::{cpu_time, field, milliseconds};
use super::programs::PYTHON;
use super::redis::Redis;
use super::stats::Summary;
use super::{Options, Row};

/// Processes that are followed together, and compared with one.
const MANY: usize = 50;
/// What each does once it is followed, so that there are stacks and names.
const OPERATIONS: u64 = 20;

type Start<'a> = &'a dyn Fn() -> Result<Box<dyn Load>>;

/// What the agent has taken: KiB, descriptors, ms.
struct Taken {
    resident: f64,
    anonymous: f64,
    descriptors: f64,
    attaching: f64,
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let agents: Vec<(&str, &Path)> =
        [("this build", Some(&built.agent)), ("`--against`", built.against.as_ref())]
            .into_iter()
            .filter_map(|(name, agent)| Some((name, agent?.as_path())))
            .collect();
    let python: Start<'_> =
        &|| fixture(Command::new(PYTHON).arg(&built.json).env("PYTHONMALLOC", "malloc"), None);
    let redis: Start<'_> = &|| Ok(Box::new(Redis::start(1)?));
    let programs =
        [("python3", is_installed(PYTHON), python), ("redis-server", Redis::is_installed(), redis)];
    let mut rows = Vec::new();
    for (program, is_installed, start) in programs {
        if !is_installed {
            eprintln!("{program} is not installed: left out");
            continue;
        }
        for (agent, path) in &agents {
            let mut samples = Vec::new();
            for _ in 0..options.runs {
                samples.push([measure(path, start, 1)?, measure(path, start, MANY)?]);
            }
            rows.extend(self::rows(program, agent, &samples)?);
        }
    }
    Ok(rows)
}

/// What following so many processes takes, once each has worked and a report has named its stacks.
fn measure(agent: &Path, start: Start<'_>, processes: usize) -> Result<Taken> {
    let mut loads = (0..processes).map(|_| start()).collect::<Result<Vec<_>>>()?;
    for load in &mut loads {
        // One that answers has its libraries.
        load.cost(load.least())?;
    }
    let pids: Vec<u32> = loads.iter().map(|load| load.pid()).collect();
    let mut agent = Agent::attach_all(agent, &pids, Limit::Off, &["-i", "1s"])?;
    let attaching = milliseconds(cpu_time(agent.pid())?);
    for load in &mut loads {
        load.cost(OPERATIONS.max(load.least()))?;
    }
    for _ in 0..2 {
        agent.await_report()?;
    }
    let path = format!("/proc/{}", agent.pid());
    let status = fs::read_to_string(format!("{path}/status")).context(path.clone())?;
    let kib = |name: &str| field(&status, name).with_context(|| format!("{name} in the agent's status"));
    let descriptors = fs::read_dir(format!("{path}/fd")).context(path)?.count() as f64;
    Ok(Taken { resident: kib("VmRSS")?, anonymous: kib("RssAnon")?, descriptors, attaching })
}

fn rows(program: &str, agent: &str, samples: &[[Taken; 2]]) -> Result<Vec<Row>> {
    let row = |what: &str, figure: fn(&Taken) -> f64, unit| {
        let more = |[one, many]: &[Taken; 2]| (figure(many) - figure(one)) / (MANY - 1) as f64;
        let first: Vec<f64> = samples.iter().map(|[one, _]| figure(one)).collect();
        let first = Summary::of(&first).context("no samples")?.median;
        anyhow::Ok(Row {
            what: format!("processes: {what}, each of {MANY} {program} beyond the first"),
            variant: agent.to_owned(),
            summary: Summary::of(&samples.iter().map(more).collect::<Vec<_>>()).context("no samples")?,
            unit,
            note: format!("the first: {}", super::stats::figure(first)),
        })
    };
    Ok(vec![
        row("agent, resident", |taken| taken.resident, "KiB")?,
        row("agent, anonymous", |taken| taken.anonymous, "KiB")?,
        row("agent, descriptors", |taken| taken.descriptors, "")?,
        row("agent's CPU until attached", |taken| taken.attaching, "ms")?,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_process_costs_is_what_it_adds() {
        let taken =
            |figure| Taken { resident: figure, anonymous: figure, descriptors: figure, attaching: 0.0 };
        let rows = rows("p", "a", &[[taken(100.0), taken(590.0)], [taken(100.0), taken(590.0)]]).unwrap();
        assert_eq!(rows.iter().map(|row| row.summary.median).collect::<Vec<_>>(), [10.0, 10.0, 10.0, 0.0]);
        assert!(rows[0].note.contains("100"), "{}", rows[0].note);
    }
}
