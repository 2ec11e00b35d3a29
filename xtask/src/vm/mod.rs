//! `cargo xtask vm`: the suites on other kernels, in a virtual machine.
//!
//! Debian's kernels are taken from its archive and started by qemu, in software: that works everywhere. The machine has
//! no disk: agent, suites and the libraries they need are its initial file system, and what it writes to its console
//! says how each suite ended.

mod image;
mod packages;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::process;

/// What the machine writes at the end of each suite, before its name and exit status.
const MARK: &str = "memtrace-vm: ";

/// Run suites on Debian's kernels under qemu
///
/// Needs apt, qemu-system-x86, cpio and binutils. Packages, file systems and logs stay below target/vm.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Versions, as far as they matter: the newest that apt offers of each is taken
    #[arg(long = "kernel", value_name = "VERSION", default_values = ["6.1", "6.12"])]
    kernels: Vec<String>,
    /// Suites of memtrace-tests
    #[arg(long = "suite", value_name = "NAME", default_values = ["kernel", "counting", "leaving", "lifecycle", "mapping"])]
    suites: Vec<String>,
    /// Minutes after which a machine is given up
    #[arg(long, value_name = "N", default_value_t = 30)]
    minutes: u32,
    /// What qemu runs the machine by (`kvm` is faster, where it works)
    #[arg(long, value_name = "NAME", default_value = "tcg,thread=multi")]
    accel: String,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let directory = root.join("target/vm");
    std::fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let busybox = packages::unpack(&directory, "busybox-static")?.join("bin/busybox");
    let programs = image::Programs::build(root, &args.suites)?;
    let initrd = directory.join("initrd.gz");
    image::write(&programs, &busybox, &directory.join("root"), &initrd)?;
    let mut all = true;
    for version in &args.kernels {
        let package = packages::newest_kernel(version)?;
        let unpacked = packages::unpack(&directory, &package)?;
        println!("--- {package}");
        let log = directory.join(format!("{package}.log"));
        let outcomes = boot(&packages::image(&unpacked)?, &initrd, args, &log)?;
        for suite in &args.suites {
            let status = outcomes.iter().find(|(name, _)| name == suite).map(|(_, status)| status.as_str());
            all &= status == Some("0");
            println!(
                "{version}: {suite}: {}",
                status.map_or("did not end", |status| if status == "0" { "passed" } else { "FAILED" })
            );
        }
        println!("log: {}", log.display());
    }
    Ok(if all { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Starts a machine and follows its console to the end. Returns each suite's name and exit status.
fn boot(kernel: &Path, initrd: &Path, args: &Args, log: &Path) -> Result<Vec<(String, String)>> {
    let mut command = process::command("timeout");
    command.arg(format!("{}m", args.minutes)).arg("qemu-system-x86_64");
    command.args(["-accel", &args.accel, "-cpu", "max", "-smp", "2", "-m", "2G"]);
    command.args(["-nographic", "-no-reboot", "-net", "none", "-append"]);
    command
        .arg("console=ttyS0 panic=-1 quiet rdinit=/init")
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initrd);
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut machine = command.spawn().context("cannot start qemu-system-x86_64 (package qemu-system-x86)")?;
    let console = machine.stdout.take().context("a machine without a console")?;
    let (mut text, mut outcomes) = (Vec::new(), Vec::new());
    for line in BufReader::new(console).split(b'\n') {
        let line = line.context("reading the machine's console")?;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        if line.starts_with("test ") {
            println!("{line}");
        }
        outcomes.extend(outcome(&line));
        text.push(line);
    }
    machine.wait().context("waiting for qemu")?;
    std::fs::write(log, text.join("\n")).with_context(|| log.display().to_string())?;
    if outcomes.is_empty() {
        bail!("the machine ran no suite: {}", log.display());
    }
    Ok(outcomes)
}

/// The suite that a line tells the end of, and its exit status.
fn outcome(line: &str) -> Option<(String, String)> {
    let (name, status) = line.strip_prefix(MARK)?.split_once(' ')?;
    Some((name.to_owned(), status.to_owned()))
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
    use super::outcome;

    #[test]
    fn the_end_of_a_suite_is_told_by_its_mark() {
        assert_eq!(outcome("memtrace-vm: kernel 101"), Some(("kernel".to_owned(), "101".to_owned())));
        assert_eq!(outcome("test kernel ... ok"), None);
    }
}
