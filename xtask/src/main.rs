//! `cargo xtask <command>`: everything a maintainer runs, one file or directory per command.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a command-line tool reports to its terminal")]

mod bench;
mod bpf_tools;
mod build_ebpf;
mod check_aarch64;
mod dist;
mod leaks;
mod lock;
mod process;
mod source_hash;
mod stacks;
mod tidy;
mod torture;
mod verdicts;
mod vm;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds and checks memtrace", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Bench(bench::Args),
    BuildEbpf(build_ebpf::Args),
    CheckAarch64(check_aarch64::Args),
    Dist(dist::Args),
    Leaks(leaks::Args),
    Stacks(stacks::Args),
    Tidy(tidy::Args),
    Torture(torture::Args),
    Verdicts(verdicts::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = workspace_root().and_then(|root| match cli.command {
        Command::Bench(args) => bench::run(&root, &args),
        Command::BuildEbpf(args) => build_ebpf::run(&root, &args),
        Command::CheckAarch64(args) => check_aarch64::run(&root, &args),
        Command::Dist(args) => dist::run(&root, &args),
        Command::Leaks(args) => leaks::run(&root, &args),
        Command::Stacks(args) => stacks::run(&root, &args),
        Command::Tidy(args) => tidy::run(&root, &args),
        Command::Torture(args) => torture::run(&root, &args),
        Command::Verdicts(args) => verdicts::run(&root, &args),
        Command::Vm(args) => vm::run(&root, &args),
    });
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

/// The checkout that `cargo xtask` runs in, not the one this binary was once compiled in: a target directory
/// may be shared or moved.
fn workspace_root() -> Result<PathBuf> {
    let package = std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.parent().unwrap_or_else(|| Path::new("/"));
    root.canonicalize().with_context(|| format!("workspace {}", root.display()))
}
