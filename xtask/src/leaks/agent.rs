//! Runs memtrace.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::figures::Figures;
use super::programs::Program;

/// The last report, as far as it is looked at.
#[derive(serde::Deserialize)]
struct Report {
    leak_check: Option<Check>,
}

#[derive(serde::Deserialize)]
struct Check {
    #[serde(flatten)]
    figures: Figures,
    undecided_blocks: u64,
    complete: bool,
}

/// Runs a program to its end, whatever its status.
pub(super) fn run(
    agent: &Path,
    program: &Program,
    directory: &Path,
    environment: &[(String, String)],
) -> Result<Figures> {
    let output = directory.join("memtrace.json");
    let mut command = Command::new(agent);
    command
        .args(["run", "--leak-check", "always", "--format", "json", "--interval", "600", "--output"])
        .arg(&output)
        .args(["--max-live", "4000000", "--"])
        .envs(program.environment());
    command.args(program.words()).envs(environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let finished = command.output().with_context(|| agent.display().to_string())?;
    let stderr = String::from_utf8_lossy(&finished.stderr);
    let text = fs::read_to_string(&output).with_context(|| format!("no report: {}", stderr.trim_end()))?;
    // So that the next program's is its own.
    fs::remove_file(&output)?;
    let report: Report = serde_json::from_str(&text)?;
    let check = report.leak_check.with_context(|| format!("no leak check: {}", stderr.trim_end()))?;
    ensure!(check.undecided_blocks == 0, "{} blocks are undecided", check.undecided_blocks);
    ensure!(check.complete, "the scan was not complete");
    Ok(check.figures)
}
