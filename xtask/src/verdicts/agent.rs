//! Traces a program and looks at the last report.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::programs::Program;
use super::table::Outcome;
use super::{Args, Mode};

/// Time for a program to start.
const START: Duration = Duration::from_millis(300);

/// The report, as far as it is looked at.
#[derive(Deserialize)]
pub(super) struct Report {
    pub(super) mode: Counted,
    pub(super) stacks: Vec<Stack>,
}

#[derive(Deserialize)]
pub(super) struct Counted {
    exact: bool,
    sampling: bool,
    gaps: u64,
}

impl Counted {
    /// How allocations were counted in the end.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self { exact: true, .. } => "exact",
            Self { gaps: 1.., .. } => "windows",
            Self { sampling: true, .. } => "samples",
            _ => "in part",
        }
    }
}

#[derive(Deserialize)]
pub(super) struct Stack {
    pub(super) bytes: u64,
    pub(super) verdict: String,
    pub(super) verdict_reason: String,
    frames: Vec<Frame>,
}

#[derive(Deserialize)]
struct Frame {
    function: Option<String>,
}

impl Stack {
    /// Whether one of its frames is of a function of that name.
    pub(super) fn is_of(&self, function: &str) -> bool {
        let names = self.frames.iter().filter_map(|frame| frame.function.as_deref());
        function == "*"
            || names.flat_map(|name| name.split(|c: char| !is_of_a_name(c))).any(|name| name == function)
    }

    /// Its innermost functions.
    pub(super) fn place(&self) -> String {
        let names = self.frames.iter().filter_map(|frame| frame.function.as_deref());
        let short = names.map(|name| name.chars().take(40).collect::<String>());
        short.take(3).collect::<Vec<_>>().join(" < ")
    }
}

fn is_of_a_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// A process that is killed with the value.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a program and traces it.
pub(super) fn run(
    agent: &Path,
    program: &Program,
    mode: Mode,
    args: &Args,
    directory: &Path,
) -> Result<Outcome> {
    let quiet = |command: &mut Command| {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let target = Running(quiet(&mut program.command()).context("cannot be started")?);
    std::thread::sleep(START);
    let file = directory.join(format!("{}-{}.json", program.name, mode.name()));
    let mut command = Command::new(agent);
    command.arg("attach").arg(target.0.id().to_string());
    command.args(["--format", "json", "--top", "0", "--interval", "1h", "--duration"]);
    command.arg(format!("{}s", args.seconds)).arg("--output").arg(&file);
    match mode {
        Mode::Exact => command.args(["--max-overhead", "off"]),
        Mode::Sampled => command.args(["--max-overhead", "off", "--sample", &args.sample]),
        Mode::Budget => &mut command,
    };
    let finished = command.stdin(Stdio::null()).output().with_context(|| agent.display().to_string())?;
    let stderr = String::from_utf8_lossy(&finished.stderr);
    ensure!(finished.status.success(), "{}", stderr.trim_end());
    let text = fs::read_to_string(&file).with_context(|| format!("no report: {}", stderr.trim_end()))?;
    let report: Report = serde_json::from_str(&text).context("the report")?;
    Ok(Outcome::new(program, &report, mode))
}
