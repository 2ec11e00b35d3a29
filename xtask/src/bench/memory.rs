//! What reports cost, and what the agent and its kernel maps take, by the number of live blocks.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use super::agent::{Agent, Limit};
use super::build::Built;
use super::child::Fixture;
use super::stats::Summary;
use super::{Options, Row};

/// Different stacks that the blocks come from.
const STACKS: &str = "10000";
/// Reports that are measured in a run, behind one that is not.
const REPORTS: usize = 4;
/// Time between two reports. It begins with what a report may take until the agent is idle again, and holds a
/// window in which the agent must be idle.
const INTERVAL: &str = "1s";
const WRITTEN: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_millis(500);
/// A case with more blocks is measured once: filling it takes most of a minute.
const MANY: u64 = 5_000_000;

struct Case {
    blocks: u64,
    name: &'static str,
    options: &'static [&'static str],
}

const CASES: [Case; 5] = [
    Case { blocks: 10_000, name: "10,000", options: &[] },
    Case { blocks: 1_000_000, name: "1,000,000", options: &[] },
    Case { blocks: 1_000_000, name: "1,000,000", options: &["--older", "1ms"] },
    Case { blocks: 1_000_000, name: "1,000,000", options: &["--show-allocs"] },
    Case { blocks: 10_000_000, name: "10,000,000", options: &["--max-live", "10000000"] },
];

/// KiB, and ms of CPU time.
#[derive(Default)]
struct Samples {
    resident: Vec<f64>,
    peak: Vec<f64>,
    kernel: Vec<f64>,
    /// Anonymous, file and shared pages of the last run.
    parts: [f64; 3],
    /// Of a report.
    report: Vec<f64>,
    /// What the last one said.
    said: String,
    /// Of a second without one.
    idle: Vec<f64>,
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let mut samples: [Samples; 5] = Default::default();
    for run in 0..options.runs {
        for (case, samples) in CASES.iter().zip(&mut samples) {
            if run == 0 || case.blocks < MANY {
                measure(built, case, samples).with_context(|| format!("{} live blocks", case.name))?;
            }
        }
    }
    let mut rows = Vec::new();
    for (case, samples) in CASES.iter().zip(&samples) {
        rows.extend(samples.rows(case)?);
    }
    Ok(rows)
}

impl Samples {
    fn rows(&self, case: &Case) -> Result<Vec<Row>> {
        let row = |what: &str, samples: &[f64], unit, note: String| {
            let words: Vec<&str> = ["attach"].iter().chain(case.options).copied().collect();
            anyhow::Ok(Row {
                what: format!("memory: {what}, {} live blocks", case.name),
                variant: format!("`{}`", words.join(" ")),
                summary: Summary::of(samples).context("no samples")?,
                unit,
                note,
            })
        };
        let mebibytes = |samples: &[f64]| samples.iter().map(|kib| kib / 1024.0).collect::<Vec<_>>();
        let [anonymous, file, shared] = self.parts.map(|kib| kib / 1024.0);
        let parts = format!("anonymous {anonymous:.1}, file {file:.1}, shared {shared:.1}");
        Ok(vec![
            row("agent's CPU per report", &self.report, "ms", self.said.clone())?,
            row("agent's CPU per idle second", &self.idle, "ms", String::new())?,
            row("agent, resident", &mebibytes(&self.resident), "MiB", parts)?,
            row("agent, resident at most", &mebibytes(&self.peak), "MiB", String::new())?,
            row("kernel maps", &mebibytes(&self.kernel), "MiB", String::new())?,
        ])
    }
}

fn measure(built: &Built, case: &Case, samples: &mut Samples) -> Result<()> {
    let mut target = Fixture::start(Command::new(&built.live).arg(STACKS))?;
    let options: Vec<&str> = ["-i", INTERVAL].iter().chain(case.options).copied().collect();
    let mut agent = Agent::attach(&built.agent, target.pid(), Limit::Off, &options)?;
    target.ask(case.blocks)?;
    // The first has stacks to learn.
    agent.await_report()?;
    thread::sleep(WRITTEN);
    let mut settled = cpu_time(agent.pid())?;
    for _ in 0..REPORTS {
        thread::sleep(IDLE);
        let before = cpu_time(agent.pid())?;
        samples.said = agent.await_report()?;
        thread::sleep(WRITTEN);
        let after = cpu_time(agent.pid())?;
        samples.idle.push(milliseconds(before.saturating_sub(settled)) / IDLE.as_secs_f64());
        samples.report.push(milliseconds(after.saturating_sub(before)));
        settled = after;
    }
    let path = format!("/proc/{}/status", agent.pid());
    let status = fs::read_to_string(&path).context(path)?;
    let kib = |name: &str| field(&status, name).with_context(|| format!("{name} in the agent's status"));
    samples.resident.push(kib("VmRSS")?);
    samples.peak.push(kib("VmHWM")?);
    samples.parts = [kib("RssAnon")?, kib("RssFile")?, kib("RssShmem")?];
    samples.kernel.push(kernel_maps(agent.pid())? / 1024.0);
    Ok(())
}

/// Of all threads of a process, those that have ended too. `/proc/PID/stat` counts in 10 ms.
pub(super) fn cpu_time(pid: u32) -> Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.try_into()?)).context("a process's clock")?;
    Ok(clock_gettime(clock).context("a process's CPU time")?.into())
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Bytes of a process's eBPF maps, each counted once however many descriptors it has.
fn kernel_maps(pid: u32) -> Result<f64> {
    let directory = format!("/proc/{pid}/fdinfo");
    let mut maps = BTreeMap::new();
    for entry in fs::read_dir(&directory).context(directory.clone())? {
        // A descriptor may be gone already.
        let Ok(info) = fs::read_to_string(entry.context(directory.clone())?.path()) else { continue };
        if let (Some(id), Some(bytes)) = (field(&info, "map_id"), field(&info, "memlock")) {
            maps.insert(id as u64, bytes);
        }
    }
    ensure!(!maps.is_empty(), "no eBPF map in {directory}");
    Ok(maps.into_values().sum())
}

/// The number after `name:`.
pub(super) fn field(text: &str, name: &str) -> Option<f64> {
    let after = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_start().to_owned());
    text.lines().find_map(after)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmPeak:\t  9 kB\nVmRSS:\t  1234 kB\nRssAnon:\t 56 kB\n";
        assert_eq!(field(status, "VmRSS"), Some(1234.0));
        assert_eq!(field(status, "RssAnon"), Some(56.0));
        assert_eq!(field(status, "Rss"), None);
        assert_eq!(field("map_type:\t2\nmap_id:\t17\nmemlock:\t4096\n", "memlock"), Some(4096.0));
        assert_eq!(field("memlock:\tmany\n", "memlock"), None);
    }

    #[test]
    fn cpu_time_is_spent_by_working_alone() {
        let before = cpu_time(std::process::id()).unwrap();
        let work = (0..20_000_000_u64).fold(0, |sum: u64, x| std::hint::black_box(sum ^ x));
        std::hint::black_box(work);
        assert!(cpu_time(std::process::id()).unwrap() > before);
        assert!(cpu_time(u32::MAX).is_err());
    }
}
