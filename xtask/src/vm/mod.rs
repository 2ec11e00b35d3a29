//! `cargo xtask vm`: the suites on other kernels, in a virtual machine.
//!
//! Debian's kernels are taken from its archive and started by qemu, in software: that works everywhere. The machine has
//! no disk: agent, suites and what they need are its initial file system, and what it writes to its console says when
//! each suite begins and how it ended.
//!
//! - `packages`: kernels from Debian's archive.
//! - `image`, `toolchain`: the file system.
//! - `machine`: qemu, and what is on the console.

mod image;
mod machine;
mod packages;
mod toolchain;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use machine::{Ended, Machine, Outcome};
use packages::Archive;

/// Run suites on Debian's kernels under qemu
///
/// Needs apt, qemu-system-x86, cpio, gcc, and what suites trace (see .ci/run). Packages, file systems and logs stay below
/// target/vm. Ends with a table of what passed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A version, as far as it matters (the newest in Debian's archive is taken), `newest`, or the path of a kernel
    #[arg(long = "kernel", value_name = "VERSION|PATH", default_values = ["6.1", "6.12", "newest"])]
    kernels: Vec<String>,
    /// Suites of memtrace-tests; if none is named, all but budget and memleak, which go by time
    #[arg(long = "suite", value_name = "NAME")]
    suites: Vec<String>,
    /// Seconds after which a suite is given up
    #[arg(long, value_name = "N", default_value_t = 900)]
    limit: u64,
    /// What qemu runs the machine by (`kvm` is faster, where it works)
    #[arg(long, value_name = "NAME", default_value = "tcg,thread=multi")]
    accel: String,
    /// The machine's memory
    #[arg(long, value_name = "SIZE", default_value = "3G")]
    memory: String,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let directory = root.join("target/vm");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let archive = Archive::open(&directory)?;
    let busybox = archive.unpack("busybox-static")?.join("usr/bin/busybox");
    let programs = image::Programs::build(root, &args.suites)?;
    let initrd = directory.join("initrd");
    image::write(&programs, &busybox, &root.join("tests/c"), &directory.join("root"), &initrd)?;
    let mut results = Vec::new();
    for version in &args.kernels {
        let (name, kernel) = kernel(&archive, version)?;
        let log = directory.join(format!("{name}.log"));
        println!("--- {name}, log: {}", log.display());
        let machine = Machine {
            kernel: &kernel,
            initrd: &initrd,
            accel: &args.accel,
            memory: &args.memory,
            limit: Duration::from_secs(args.limit),
        };
        results.push((name, machine.run(&programs.suites(), &log)?));
    }
    for (name, ended) in &results {
        println!("\n{name}");
        ended.iter().for_each(|one| println!("{}", row(one)));
    }
    let all = results.iter().flat_map(|(_, ended)| ended).all(|one| one.outcome == Outcome::Passed);
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A kernel's name and image.
fn kernel(archive: &Archive, version: &str) -> Result<(String, PathBuf)> {
    if version.contains('/') {
        let path = PathBuf::from(version);
        let name = path.file_name().with_context(|| version.to_owned())?.to_string_lossy().into_owned();
        return Ok((name, path));
    }
    let package = archive.newest_kernel(version)?;
    let image = packages::image(&archive.unpack(&package)?)?;
    Ok((package, image))
}

/// A line of the table.
fn row(ended: &Ended) -> String {
    let outcome = match &ended.outcome {
        Outcome::Passed => "passed".to_owned(),
        Outcome::Failed => "FAILED".to_owned(),
        Outcome::NotFinished(why) => format!("NOT FINISHED: {why}"),
    };
    format!("  {:12} {:5} s  {outcome}  {}", ended.suite, ended.took.as_secs(), ended.counts)
        .trim_end()
        .to_owned()
}

/// A directory, emptied.
fn fresh(directory: &Path) -> Result<PathBuf> {
    if directory.exists() {
        std::fs::remove_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    Ok(directory.to_owned())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Ended, Outcome, row};

    #[test]
    fn a_row_says_why_a_suite_did_not_finish() {
        let mut ended = Ended {
            suite: "mapping".to_owned(),
            outcome: Outcome::Passed,
            counts: "2 passed, 0 failed".to_owned(),
            took: Duration::from_secs(9),
        };
        assert_eq!(row(&ended), "  mapping          9 s  passed  2 passed, 0 failed");
        ended.outcome = Outcome::NotFinished("did not finish in 5 s".to_owned());
        ended.counts = String::new();
        assert_eq!(row(&ended), "  mapping          9 s  NOT FINISHED: did not finish in 5 s");
    }
}
