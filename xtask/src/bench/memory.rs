//! What the agent and its kernel maps take, with many live blocks.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result, ensure};

use super::stats::Summary;
use super::target::{Agent, Fixture, Programs};
use super::{Options, Row};

const BLOCKS: u64 = 1_000_000;
/// Different stacks they come from.
const STACKS: u32 = 100;
/// Reports before memory is looked at.
const REPORTS: usize = 3;

/// What a report has to read: totals alone, or every live block.
const CASES: [(&str, &[&str]); 3] = [
    ("`attach -i 500ms`", &["-i", "500ms"]),
    ("`attach -i 500ms --older 1ms`", &["-i", "500ms", "--older", "1ms"]),
    ("`attach -i 500ms --show-allocs`", &["-i", "500ms", "--show-allocs"]),
];

/// KiB each.
#[derive(Default)]
struct Samples {
    resident: Vec<f64>,
    peak: Vec<f64>,
    kernel: Vec<f64>,
    /// Anonymous, file and shared pages of the last run.
    parts: [f64; 3],
}

pub(super) fn run(programs: &Programs, options: Options) -> Result<Vec<Row>> {
    let mut samples: [Samples; 3] = Default::default();
    for _ in 0..options.runs {
        for ((_, arguments), samples) in CASES.iter().zip(&mut samples) {
            measure(programs, arguments, samples)?;
        }
    }
    let mut rows = Vec::new();
    for ((name, _), samples) in CASES.iter().zip(&samples) {
        rows.extend(samples.rows(name)?);
    }
    Ok(rows)
}

impl Samples {
    fn rows(&self, variant: &str) -> Result<[Row; 3]> {
        let row = |what: &str, samples: &[f64], note: String| {
            let mebibytes: Vec<f64> = samples.iter().map(|kib| kib / 1024.0).collect();
            anyhow::Ok(Row {
                what: format!("memory: {what}, 1,000,000 live blocks"),
                variant: variant.to_owned(),
                summary: Summary::of(&mebibytes).context("no samples")?,
                unit: "MiB",
                note,
            })
        };
        let [anonymous, file, shared] = self.parts.map(|kib| kib / 1024.0);
        let parts = format!("anonymous {anonymous:.1}, file {file:.1}, shared {shared:.1}");
        Ok([
            row("agent, resident", &self.resident, parts)?,
            row("agent, resident at most", &self.peak, String::new())?,
            row("kernel maps", &self.kernel, String::new())?,
        ])
    }
}

fn measure(programs: &Programs, arguments: &[&str], samples: &mut Samples) -> Result<()> {
    let mut target = Fixture::start(&programs.live, [STACKS.to_string()])?;
    let mut agent = Agent::attach(&programs.agent, target.pid(), arguments)?;
    target.ask(BLOCKS)?;
    agent.await_reports(REPORTS)?;
    let path = format!("/proc/{}/status", agent.pid());
    let status = fs::read_to_string(&path).context(path)?;
    let kib = |name: &str| field(&status, name).with_context(|| format!("{name} in the agent's status"));
    samples.resident.push(kib("VmRSS")?);
    samples.peak.push(kib("VmHWM")?);
    samples.parts = [kib("RssAnon")?, kib("RssFile")?, kib("RssShmem")?];
    samples.kernel.push(kernel_maps(agent.pid())? / 1024.0);
    Ok(())
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
fn field(text: &str, name: &str) -> Option<f64> {
    let after = |line: &str| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim_start().to_owned());
    text.lines().find_map(after)?.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let status = "VmPeak:\t  9 kB\nVmRSS:\t  1234 kB\nRssAnon:\t 56 kB\n";
        assert_eq!(field(status, "VmRSS"), Some(1234.0));
        assert_eq!(field(status, "RssAnon"), Some(56.0));
        assert_eq!(field(status, "Rss"), None);
        assert_eq!(field("map_type:\t2\nmap_id:\t17\nmemlock:\t4096\n", "memlock"), Some(4096.0));
        assert_eq!(field("memlock:\tmany\n", "memlock"), None);
    }
}
