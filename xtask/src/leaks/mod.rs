//! `cargo xtask leaks`: verdicts of `memtrace run --leak-check always` beside those of valgrind's memcheck.
//!
//! Small programs of ours (`tests/c/lost`), each with one way to lose or hold a block, and programs as distributions ship
//! them are run once under either, and the four figures that both give are compared: blocks and bytes. Both are to look at
//! the same: valgrind does not let the C and C++ runtimes free their own memory at the end, which memtrace cannot, and
//! calls no pointer to the middle of a block more than possibly valid. A difference is to be listed in `known`.

mod agent;
mod figures;
mod known;
mod programs;
mod table;
mod valgrind;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use figures::Row;

/// Compare memtrace's leak checks with valgrind's (as root; needs valgrind)
///
/// Prints a Markdown table. Fails if there is a difference without an explanation.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Programs to run; all of them without
    #[arg(value_name = "PROGRAM")]
    programs: Vec<String>,
    /// The memtrace to run [default: that of the last release build]
    #[arg(long, value_name = "PATH")]
    memtrace: Option<PathBuf>,
    /// Add valgrind's verdicts with its heuristics about pointers to the middle of blocks, as it has them by default
    #[arg(long)]
    heuristics: bool,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let agent = args.memtrace.clone().unwrap_or_else(|| {
        root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
            .join("release/memtrace")
    });
    ensure!(agent.exists(), "{}: build it, or name another with --memtrace", agent.display());
    let version = valgrind::version()?;
    let environment = valgrind::environment()?;
    let directory = tempfile::tempdir().context("a temporary directory")?;
    let is_chosen =
        |name: &str| args.programs.is_empty() || args.programs.iter().any(|chosen| chosen == name);
    let programs = programs::all(root, directory.path(), is_chosen)?;
    let (mut rows, mut skipped) = (Vec::new(), Vec::new());
    for program in &programs {
        if !program.is_installed() {
            skipped.push(program.name.clone());
            continue;
        }
        eprintln!("{}", program.name);
        let run = || -> Result<Row> {
            let strict = valgrind::run(program, directory.path(), "none")?;
            let heuristics = args.heuristics.then(|| valgrind::run(program, directory.path(), "all"));
            Ok(Row {
                program: program.name.clone(),
                valgrind: strict,
                heuristics: heuristics.transpose()?,
                memtrace: agent::run(&agent, program, directory.path(), &environment)?,
            })
        };
        rows.push(run().with_context(|| program.name.clone())?);
    }
    println!("{}", table::markdown(&rows, &skipped, &version));
    let unexplained: Vec<&str> =
        rows.iter().filter(|row| !row.is_explained()).map(|row| row.program.as_str()).collect();
    if unexplained.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("differences without an explanation: {}", unexplained.join(", "));
    Ok(ExitCode::FAILURE)
}
