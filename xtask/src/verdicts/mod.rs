//! `cargo xtask verdicts`: memtrace's verdicts on programs of which it is known whether they leak.
//!
//! The programs of `tests/corpus` run for ever; each states in its first lines whether it leaks, and which function then is
//! at fault. Each is traced for a while in each mode, and its last report is compared with that.

mod agent;
mod programs;
mod table;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;

use programs::Program;
use table::Outcome;

/// How allocations are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Every allocation.
    Exact,
    /// Samples.
    Sampled,
    /// As the default budget allows.
    Budget,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Sampled => "sampled",
            Self::Budget => "budget",
        }
    }
}

/// Compare memtrace's verdicts with the truth, on programs with known leaks (as root)
///
/// Prints a Markdown table for each mode. Fails if less than 95 % are right, if a leak is called steady, or if something is
/// called lost that is not.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long each program is traced
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    seconds: u64,
    /// How allocations are counted
    #[arg(long, value_enum, value_delimiter = ',', default_values = ["exact", "sampled", "budget"])]
    mode: Vec<Mode>,
    /// The mean number of bytes between two samples
    #[arg(long, value_name = "SIZE", default_value = "1KiB")]
    sample: String,
    /// Only programs whose name contains this
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Programs that run at the same time
    #[arg(long, value_name = "N", default_value_t = 4)]
    jobs: usize,
    /// The memtrace to run [default: that of the last release build]
    #[arg(long, value_name = "PATH")]
    memtrace: Option<PathBuf>,
    /// Keep the reports in this directory
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// The part that must be right.
const RIGHT: f64 = 0.95;

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let agent = args.memtrace.clone().unwrap_or_else(|| {
        root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
            .join("release/memtrace")
    });
    ensure!(agent.exists(), "{}: build it, or name another with --memtrace", agent.display());
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let kept = args.keep.as_deref().unwrap_or(directory.path());
    let is_chosen = |name: &str| args.only.is_empty() || args.only.iter().any(|part| name.contains(part));
    let programs = programs::all(&root.join("tests/corpus"), directory.path(), is_chosen)?;
    ensure!(!programs.is_empty(), "no such program");
    let mut is_good = true;
    for &mode in &args.mode {
        let run = |program: &Program| agent::run(&agent, program, mode, args, kept);
        let outcomes = all(&programs, args.jobs, run)?;
        println!("{}", table::markdown(mode.name(), &outcomes));
        let right = outcomes.iter().filter(|outcome| outcome.is_right()).count();
        is_good &= right as f64 >= RIGHT * outcomes.len() as f64;
        is_good &= !outcomes.iter().any(Outcome::is_grave);
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs all programs, so many at a time.
fn all(
    programs: &[Program],
    jobs: usize,
    run: impl Fn(&Program) -> Result<Outcome> + Sync,
) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(program) = programs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = run(program).with_context(|| program.name.clone());
                    if let Ok(mut outcomes) = outcomes.lock() {
                        outcomes.push(outcome);
                    }
                }
            });
        }
    });
    let outcomes = outcomes.into_inner().map_err(|_poisoned| anyhow::anyhow!("a thread has panicked"))?;
    let mut outcomes = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
    outcomes.sort_by(|a, b| a.program.cmp(&b.program));
    Ok(outcomes)
}
