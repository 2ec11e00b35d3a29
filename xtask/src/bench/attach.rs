//! How long it takes from starting memtrace to having every probe in place.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use crate::process;

use super::agent::{Agent, Limit};
use super::build::Built;
use super::child::Fixture;
use super::stats::{Summary, figure};
use super::{Options, Row};

/// Attachments to each process in a run.
const PER_RUN: u32 = 3;
/// Libraries of so many bytes are mapped together, if the machine has them.
const LARGE: u64 = 150_000_000;
/// Where large libraries are looked for, beside the Rust compiler's own.
const LIBRARIES: &str = "/usr/lib/x86_64-linux-gnu";

struct Target {
    name: String,
    fixture: Fixture,
    limit: Limit,
    samples: Vec<f64>,
}

impl Target {
    fn new(built: &Built, name: &str, libraries: &[PathBuf], limit: Limit) -> Result<Self> {
        let fixture = Fixture::start(Command::new(&built.idle).args(libraries))?;
        Ok(Self { name: name.to_owned(), fixture, limit, samples: Vec::new() })
    }
}

pub(super) fn run(built: &Built, options: Options) -> Result<Vec<Row>> {
    let with_files = format!("a process with {} more mapped files", built.libraries.len());
    let mut targets = vec![
        Target::new(built, "a small process", &[], Limit::Off)?,
        Target::new(built, "a small process, at most 10 %", &[], Limit::Default)?,
        Target::new(built, &with_files, &built.libraries, Limit::Off)?,
    ];
    for target in &mut targets {
        ensure!(target.fixture.line()? == "0", "{} maps less than it should", target.name);
    }
    targets.extend(with_large_libraries(built)?);
    // The first one reads the program from disk.
    if let Some(target) = targets.first() {
        attach(built, target)?;
    }
    for _ in 0..options.runs * PER_RUN {
        for target in &mut targets {
            target.samples.push(attach(built, target).with_context(|| target.name.clone())?);
        }
    }
    targets.iter().map(row).collect()
}

/// Milliseconds.
fn attach(built: &Built, target: &Target) -> Result<f64> {
    let start = Instant::now();
    let _agent = Agent::attach(&built.agent, target.fixture.pid(), target.limit, &["-i", "1h"])?;
    Ok(start.elapsed().as_secs_f64() * 1e3)
}

fn row(target: &Target) -> Result<Row> {
    let summary = Summary::of(&target.samples).context("no samples")?;
    let fastest = target.samples.iter().copied().fold(f64::INFINITY, f64::min);
    let note = format!("fastest {fastest:.0} ms");
    let what = "attach: from start to attached".to_owned();
    Ok(Row { what, variant: target.name.clone(), summary, unit: "ms", note })
}

/// None, and a line about it, where there are no such libraries.
fn with_large_libraries(built: &Built) -> Result<Option<Target>> {
    let libraries = large_libraries();
    let mut target = Target::new(built, "", &libraries, Limit::Off)?;
    // Some of them do not load everywhere; what is mapped counts.
    target.fixture.line()?;
    let mapped = mapped_files(target.fixture.pid())?;
    let size: u64 = mapped.iter().filter_map(|file| Some(fs::metadata(file).ok()?.len())).sum();
    if size < LARGE / 10 * 9 {
        eprintln!("no libraries of {} MB that can be mapped: left out", LARGE / 1_000_000);
        return Ok(None);
    }
    let first = libraries.first().and_then(|library| library.file_name()).unwrap_or_default();
    let megabytes = figure(size as f64 / 1e6);
    let count = mapped.len();
    target.name =
        format!("a process with {megabytes} MB in {count} files, `{}` the largest", first.display());
    Ok(Some(target))
}

/// The largest ones that the limit has room for.
fn large_libraries() -> Vec<PathBuf> {
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"])).unwrap_or_default();
    let directories = [Path::new(sysroot.trim()).join("lib"), PathBuf::from(LIBRARIES)];
    let entries = directories.iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten();
    let sized = entries.filter_map(|entry| {
        // A link's own size: those do not count twice.
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        let path = entry.path();
        let is_library = path.file_name()?.to_str()?.contains(".so");
        is_library.then_some((metadata.len(), path))
    });
    fitting(sized.collect(), LARGE)
}

/// Largest first, while there is room.
fn fitting(mut sized: Vec<(u64, PathBuf)>, mut room: u64) -> Vec<PathBuf> {
    sized.sort_by(|left, right| right.cmp(left));
    let enough = room / 10;
    let mut chosen = Vec::new();
    for (size, path) in sized {
        if room > enough && size <= room {
            room -= size;
            chosen.push(path);
        }
    }
    chosen
}

/// Files that are mapped as code.
fn mapped_files(pid: u32) -> Result<BTreeSet<PathBuf>> {
    let path = format!("/proc/{pid}/maps");
    let maps = fs::read_to_string(&path).context(path)?;
    let file = |line: &str| {
        let file = line.split_whitespace().nth(5).filter(|file| file.starts_with('/'))?;
        line.contains(" r-xp ").then(|| PathBuf::from(file))
    };
    Ok(maps.lines().filter_map(file).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_that_fit_are_chosen() {
        let sized = [(60, "b"), (200, "a"), (10, "e"), (39, "d"), (50, "c")];
        let sized = sized.map(|(size, name)| (size, PathBuf::from(name))).to_vec();
        assert_eq!(fitting(sized, 100), ["b", "d"].map(PathBuf::from));
    }

    #[test]
    fn code_of_this_process_is_found() {
        let own = std::env::current_exe().unwrap();
        assert!(mapped_files(std::process::id()).unwrap().contains(&own));
    }
}
