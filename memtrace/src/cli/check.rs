//! `memtrace check`.
#![expect(clippy::print_stdout, reason = "a report of its own, for people")]

use std::process::ExitCode;

use crate::{
    allocators,
    bpf::{self, Feature},
    report::escape,
    target::{Modules, Process},
};

/// Options of `memtrace check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0 if tracing works, 1 if something required is missing.")]
pub(super) struct Args {
    /// Also say what this process offers
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let features = bpf::features();
    println!("This machine:");
    for feature in &features {
        show(feature);
    }
    let mut works = features.iter().all(|feature| feature.available || !feature.required);
    if let Some(pid) = args.pid {
        works &= target(pid)?;
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(feature: &Feature) {
    let mark = match (feature.available, feature.required) {
        (true, _) => "yes",
        (false, true) => "NO ",
        (false, false) => "no ",
    };
    println!("  {mark}  {}: {}", feature.name, feature.detail);
    if !feature.available {
        println!("       → {}", feature.advice);
    }
}

/// What a process offers; whether it can be traced.
fn target(pid: u32) -> anyhow::Result<bool> {
    let process = Process::open(pid)?;
    println!("Process {pid} ({}):", escape(&process.comm));
    let modules = Modules::read(pid)?;
    let mut found = false;
    for module in modules.iter() {
        let Some(path) = module.path() else { continue };
        let name = escape(&module.name);
        match module.image().map(|image| allocators::find(image, &path)) {
            Some(Ok(allocator)) => {
                found = true;
                println!("  yes  {} in {name}: {} functions", allocator.name, allocator.specs.len());
                for spec in &allocator.specs {
                    let cost =
                        if spec.site.emulated { "cheap" } else { "single-stepped: about ten times dearer" };
                    println!("         {}+{:#x} ({cost})", spec.function, spec.site.delta);
                }
                for note in &allocator.notes {
                    println!("         {}", escape(note));
                }
            }
            Some(Err(error)) => tracing::debug!("{name}: {error}"),
            None => println!("  no   {name}: not an ELF file that memtrace reads"),
        }
    }
    if !found {
        println!("  NO   no allocator: no library and not the program itself defines malloc and free");
        println!("       → a static program needs its symbols (do not strip it) to be traced");
    }
    Ok(found)
}
