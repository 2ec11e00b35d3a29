//! `cargo xtask stacks`: how right stacks are, program by program.
//!
//! Programs as distributions ship them are traced under load, once with stacks by call frame information and once by
//! frame pointers. What each stack says of itself is counted, and each of its frames is checked against the code: the
//! address must follow a call instruction (see `check`).

mod check;
mod code;
mod figures;
mod programs;
mod reports;
mod subject;
mod trace;

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use figures::Figures;

/// Where `--save` writes.
const SAVED: &str = "STACKS.md";

/// Check the stacks of real programs (as root; installs missing programs with apt-get)
///
/// Builds the agent for release and prints Markdown tables.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Programs to trace; all of them without
    #[arg(value_name = "PROGRAM")]
    programs: Vec<String>,
    /// Seconds that a program is traced, for each way of taking stacks
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=600))]
    seconds: u32,
    /// Write STACKS.md too
    #[arg(long)]
    save: bool,
    /// Print each stack that is incomplete or has a frame that follows no call
    #[arg(long)]
    explain: bool,
}

/// A way of taking stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Cfi,
    FramePointer,
}

impl Method {
    const ALL: [Self; 2] = [Self::Cfi, Self::FramePointer];

    fn option(self) -> &'static str {
        match self {
            Self::Cfi => "cfi",
            Self::FramePointer => "fp",
        }
    }
}

/// A line of the table.
struct Row {
    program: &'static str,
    method: Method,
    figures: Figures,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let tools = trace::Tools::build(root, args.seconds)?;
    let mut rows = Vec::new();
    let mut comparisons = Vec::new();
    let mut skipped = Vec::new();
    for program in programs::ALL {
        if !args.programs.is_empty() && !args.programs.iter().any(|name| name == program.name) {
            continue;
        }
        if let Err(why) = program.available() {
            skipped.push(format!("{}: {why:#}", program.name));
            continue;
        }
        for method in Method::ALL {
            eprintln!("{} --stacks {}", program.name, method.option());
            let figures = trace::program(&tools, program, method, args.explain)
                .with_context(|| format!("{} with --stacks {}", program.name, method.option()))?;
            rows.push(Row { program: program.name, method, figures });
        }
        eprintln!("{} compared", program.name);
        let comparison = trace::compare(&tools, program).with_context(|| program.name)?;
        comparisons.push((program.name, comparison));
    }
    let text = format!("{}\n{}", figures::tables(&rows, &skipped), figures::comparisons(&comparisons));
    println!("{text}");
    if args.save {
        let path = root.join(SAVED);
        fs::write(&path, document(&text)).with_context(|| path.display().to_string())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn document(tables: &str) -> String {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    format!("# Stacks\n\nMade by `cargo xtask {}`.\n\n{}\n{tables}", arguments.join(" "), figures::LEGEND)
}
