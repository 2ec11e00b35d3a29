//! Runs the agent on a program.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::process;

use super::Method;
use super::check;
use super::code::Code;
use super::figures::Figures;
use super::programs::Program;
use super::reports::{self, Comparison, Report};
use super::subject::Trace;

/// The built agent and its options.
pub(super) struct Tools {
    agent: PathBuf,
    oracle: PathBuf,
    fixtures: PathBuf,
    seconds: u32,
}

impl Tools {
    /// Builds the agent for release.
    pub(super) fn build(root: &Path, seconds: u32) -> Result<Self> {
        let target = root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        process::run(
            process::command("cargo")
                .current_dir(root)
                .args(["build", "--quiet", "--release", "--package", "memtrace", "--bin", "memtrace"])
                .args(["--example", "oracle", "--target-dir"])
                .arg(&target),
        )?;
        Ok(Self {
            agent: target.join("release/memtrace"),
            oracle: target.join("release/examples/oracle"),
            fixtures: root.join("xtask/fixtures/stacks"),
            seconds,
        })
    }
}

/// Starts the program anew, traces it and checks what is reported.
pub(super) fn program(tools: &Tools, program: &Program, method: Method, explain: bool) -> Result<Figures> {
    let mut figures = Figures::default();
    let subject = (program.start)(&tools.fixtures)?;
    let mut code = Code::default();
    for trace in subject.traces() {
        let output = trace_one(tools, trace, method)?;
        let report: Report<'_> = reports::last(&output)?;
        ensure!(report.mode.stacks == method.option(), "stacks were taken by {}", report.mode.stacks);
        let pid = match trace {
            Trace::Attach(pid) => Some(*pid),
            Trace::Run(_) => None,
        };
        check::report(&report, pid, &mut code, explain, &mut figures);
    }
    Ok(figures)
}

fn trace_one(tools: &Tools, trace: &Trace, method: Method) -> Result<String> {
    let seconds = tools.seconds.to_string();
    let mut command = Command::new(&tools.agent);
    command.arg(match trace {
        Trace::Attach(_) => "attach",
        Trace::Run(_) => "run",
    });
    command.args([
        "--format",
        "json",
        "--top",
        "0",
        "--freed",
        "--max-stacks",
        "1000000",
        "--stacks",
        method.option(),
    ]);
    match trace {
        // One report, at the end.
        Trace::Attach(pid) => command.args(["--count", "1", "--interval", &seconds]).arg(pid.to_string()),
        // A command ends by itself.
        Trace::Run(words) => command.args(["--interval", "600", "--"]).args(words),
    };
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    let output = command.output().with_context(|| tools.agent.display().to_string())?;
    ensure!(
        output.status.success(),
        "memtrace: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Seconds that a command may take under the oracle.
const COMMAND: &str = "120";

/// Starts the program anew and compares its stacks with what another unwinder makes of the same memory.
pub(super) fn compare(tools: &Tools, program: &Program) -> Result<Comparison> {
    let subject = (program.start)(&tools.fixtures)?;
    let mut sum = Comparison::default();
    for trace in subject.traces() {
        let mut command = Command::new(&tools.oracle);
        match trace {
            Trace::Attach(pid) => command.args([&tools.seconds.to_string(), "attach", &pid.to_string()]),
            Trace::Run(words) => command.args([COMMAND, "run"]).args(words),
        };
        let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output()?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the oracle: {}: {}", output.status, stderr.trim_end());
        sum.add(reports::last(&String::from_utf8_lossy(&output.stdout))?);
    }
    Ok(sum)
}
