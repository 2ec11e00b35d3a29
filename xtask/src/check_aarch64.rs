//! `cargo xtask check-aarch64`: compiles the agent for aarch64, as far as that goes without its linker.
//!
//! Debian's rustc does it with Debian's std for that architecture, which is only unpacked below `target/`: nothing is
//! installed, and neither root nor a foreign architecture in dpkg's settings is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};

use crate::bpf_tools::RUSTC;
use crate::process;

const TARGET: &str = "aarch64-unknown-linux-gnu";
/// Exit code when the standard library cannot be had.
const NOT_CHECKED: u8 = 3;
const PACKAGE: &str = "libstd-rust-web-dev";

/// Check that the agent and its tests compile for aarch64
///
/// Gets the standard library for it from Debian's archive, of the installed rustc-web's version. Exit code 3: it cannot be
/// had, nothing was checked.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(root: &Path, _: &Args) -> Result<ExitCode> {
    let directory = root.join("target/aarch64");
    let sysroot = match sysroot(&directory) {
        Ok(sysroot) => sysroot,
        Err(error) => {
            eprintln!("not checked: the standard library for aarch64 is missing: {error:#}");
            return Ok(ExitCode::from(NOT_CHECKED));
        }
    };
    process::run(
        process::command(cargo())
            .current_dir(root)
            .args(["check", "--locked", "--ignore-rust-version", "--package", "memtrace"])
            .args(["--all-targets", "--target", TARGET, "--target-dir"])
            .arg(&directory)
            .env("RUSTC", RUSTC)
            .env("RUSTC_WRAPPER", "")
            .env("CARGO_ENCODED_RUSTFLAGS", format!("--sysroot={}\x1f-Dwarnings", sysroot.display())),
    )?;
    Ok(ExitCode::SUCCESS)
}

/// The cargo that runs this: PATH may name the distribution's first.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
}

/// Root of an installation that has only the target's std, fetched where it is missing or of another compiler.
fn sysroot(directory: &Path) -> Result<PathBuf> {
    let version = process::capture(process::command("dpkg-query").args([
        "--show",
        "--showformat=${Version}",
        "rustc-web",
    ]))?;
    let unpacked = directory.join(format!("std-{version}"));
    if !unpacked.exists() {
        // Its name says that it is whole.
        let partial = directory.join("std-partial");
        if partial.exists() {
            fs::remove_dir_all(&partial).with_context(|| partial.display().to_string())?;
        }
        let package = download(&partial.join("apt"), &format!("{PACKAGE}={version}"))
            .context("Debian's archive keeps the newest version only: is rustc-web up to date?")?;
        process::run(process::command("dpkg-deb").arg("--extract").args([&package, &partial]))?;
        fs::remove_dir_all(partial.join("apt")).with_context(|| partial.display().to_string())?;
        fs::rename(&partial, &unpacked).with_context(|| unpacked.display().to_string())?;
    }
    let sysroot = unpacked.join("usr");
    let library = sysroot.join("lib/rustlib").join(TARGET).join("lib");
    ensure!(library.is_dir(), "{PACKAGE} {version} has no {}", library.display());
    Ok(sysroot)
}

/// Downloads a package for arm64 into `directory`, with the machine's sources of packages and an apt state of its own.
fn download(directory: &Path, package: &str) -> Result<PathBuf> {
    for name in ["lists/partial", "cache/archives/partial"] {
        let path = directory.join(name);
        fs::create_dir_all(&path).with_context(|| path.display().to_string())?;
    }
    process::run(apt(directory).arg("update"))?;
    process::run(apt(directory).args(["download", package]))?;
    let entries = fs::read_dir(directory).with_context(|| directory.display().to_string())?;
    entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get has not left {package} in {}", directory.display()))
}

fn apt(directory: &Path) -> Command {
    let mut command = process::command("apt-get");
    let place = |name: &str| directory.join(name).display().to_string();
    for setting in [
        "APT::Architecture=arm64".to_owned(),
        "APT::Architectures=arm64".to_owned(),
        "Acquire::Retries=3".to_owned(),
        // The directory may be one that apt's own user cannot enter.
        "APT::Sandbox::User=root".to_owned(),
        "Dir::State::status=/dev/null".to_owned(),
        format!("Dir::State::lists={}", place("lists")),
        format!("Dir::Cache={}", place("cache")),
    ] {
        command.args(["-o", &setting]);
    }
    command.current_dir(directory);
    command
}
