//! `memtrace check`.

use std::{fmt::Write as _, process::ExitCode};

use crate::{
    allocators::{Choice, ReturnProbes},
    bpf::{self, Feature},
    model::Results,
    profile::units::format_count,
    report::escape,
    session::{Keep, write_whole},
    sources::process::find_allocator,
    target::{FileStore, Modules, Process, profilers},
};

use super::{choice::ChoiceArgs, output::OutputArgs};

/// Options of `memtrace check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 if tracing works, 1 if something required is missing or a function of the process cannot be traced."
)]
pub(super) struct Args {
    /// Also check this process
    #[arg(short, long, value_name = "PID")]
    pid: Option<u32>,
    #[command(flatten)]
    choice: ChoiceArgs,
    #[command(flatten)]
    output: OutputArgs,
}

pub(super) fn main(args: &Args) -> anyhow::Result<ExitCode> {
    let (mut output, _) = args.output.open(Keep::All)?;
    let features = bpf::features();
    let mut text = String::from("This machine:\n");
    for feature in &features {
        show(&mut text, feature)?;
    }
    write_whole(&mut output, &text)?;
    let mut works = features.iter().all(|feature| feature.available || !feature.required);
    if let Some(pid) = args.pid {
        let mut text = String::new();
        works &= target(&mut text, pid, &args.choice.choice())?;
        write_whole(&mut output, &text)?;
    }
    Ok(if works { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(out: &mut String, feature: &Feature) -> std::fmt::Result {
    let mark = match (feature.available, feature.required) {
        (true, _) => "yes",
        (false, true) => "NO ",
        (false, false) => "no ",
    };
    writeln!(out, "  {mark}  {}: {}", feature.name, feature.detail)?;
    if !feature.available && !feature.advice.is_empty() {
        writeln!(out, "       → {}", feature.advice)?;
    }
    Ok(())
}

/// Writes which allocators a process has. Returns whether it can be traced.
fn target(out: &mut String, pid: u32, choice: &Choice) -> anyhow::Result<bool> {
    let process = Process::open(pid)?;
    writeln!(out, "Process {pid} ({}):", escape(&process.comm))?;
    let modules = Modules::read(pid, &FileStore::default().into())?;
    if let Some(warning) = profilers::warning(pid, &profilers::detect(pid, &modules)) {
        writeln!(out, "  note {warning}")?;
    }
    let (mut found, mut complete) = (false, true);
    for module in modules.iter() {
        if module.file().is_none() {
            continue;
        }
        let name = escape(&module.name);
        match find_allocator((pid, &modules), module, ReturnProbes::Safe, choice).as_deref() {
            Some(Ok(allocator)) => {
                found = true;
                writeln!(out, "  yes  {} in {name}: {} functions", allocator.name, allocator.specs.len())?;
                for spec in &allocator.specs {
                    let cost =
                        if spec.site.emulated { "cheap" } else { "single-stepped: about ten times slower" };
                    write!(out, "         {}+{:#x} ({cost})", spec.function, spec.site.delta)?;
                    if let Results::AtExits(sites) = &spec.results {
                        write!(out, ", no return probe: {}", format_count(sites.len() as u64, "exit site"))?;
                    }
                    writeln!(out)?;
                }
                complete &= allocator.left_out.is_empty();
                for function in &allocator.left_out {
                    writeln!(out, "    NO   {function}: not traced: a return probe could kill the process",)?;
                }
                for note in &allocator.notes {
                    writeln!(out, "         {}", escape(note))?;
                }
            }
            Some(Err(error)) => tracing::debug!("{name}: {error}"),
            None => writeln!(out, "  no   {name}: not an ELF file that memtrace reads")?,
        }
    }
    if !found {
        if choice.is_all() {
            writeln!(out, "  NO   no allocator: neither a library nor the program defines malloc and free")?;
            writeln!(
                out,
                "       → a static program must keep its symbols, or have a debug file, to be traced"
            )?;
        } else {
            writeln!(out, "  NO   nothing that the options select: without them, all allocators are listed")?;
        }
    }
    Ok(found && complete)
}
