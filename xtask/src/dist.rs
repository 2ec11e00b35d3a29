//! `cargo xtask dist`: what is installed on servers: one static program with its manual, completions and licences, as a tarball and as
//! a package of Debian's. Built twice from the same commit, all files are the same.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::process;

/// A C library that can be linked statically, and that most servers have the kernel for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Where each shell looks for completions.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "usr/share/bash-completion/completions/memtrace"),
    ("zsh", "usr/share/zsh/vendor-completions/_memtrace"),
    ("fish", "usr/share/fish/vendor_completions.d/memtrace.fish"),
];
const LICENCES: [&str; 3] = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-GPL-2.0"];

/// Build what is installed: a static program, its manual, completions and licences, as .tar.gz and .deb
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where the files go
    #[arg(long, value_name = "DIR", default_value = "target/dist")]
    out: PathBuf,
    /// Build everything a second time, and fail if a file differs
    #[arg(long)]
    twice: bool,
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    let out = root.join(&args.out);
    let sums = build(root, &out)?;
    if args.twice {
        let again = tempfile::tempdir_in(&out).context("a directory for the second build")?;
        ensure!(
            build(root, again.path())? == sums,
            "the second build has other files: see {}",
            out.display()
        );
    }
    print!("{sums}");
    Ok(ExitCode::SUCCESS)
}

/// Builds all files in a directory. Returns their checksums.
fn build(root: &Path, out: &Path) -> Result<String> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    let version = env!("CARGO_PKG_VERSION");
    let epoch = process::capture(Command::new("git").current_dir(root).args(["log", "-1", "--format=%ct"]))?;
    let epoch = epoch.trim();
    let program = compile(root, out)?;
    let stage = out.join("stage");
    if stage.exists() {
        fs::remove_dir_all(&stage).context("the files of an earlier build")?;
    }
    fill(root, &stage, &program)?;
    let tarball = format!("memtrace-{version}-{TARGET}.tar.gz");
    process::run(
        Command::new("tar")
            .current_dir(&stage)
            .args(["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "-I", "gzip -9n"])
            .arg(format!("--mtime=@{epoch}"))
            .arg(format!("--transform=s,^usr,memtrace-{version},"))
            .arg("-cf")
            .arg(out.join(&tarball))
            .arg("usr"),
    )?;
    let package = format!("memtrace_{version}_amd64.deb");
    control(&stage, version)?;
    process::run(
        Command::new("dpkg-deb")
            .env("SOURCE_DATE_EPOCH", epoch)
            .args(["--root-owner-group", "-Zxz", "-b"])
            .arg(&stage)
            .arg(out.join(&package)),
    )?;
    let mut sums = String::new();
    for name in [&tarball, &package] {
        let digest = Sha256::digest(fs::read(out.join(name))?);
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(sums, "{digest}  {name}")?;
    }
    fs::write(out.join("SHA256SUMS"), &sums)?;
    Ok(sums)
}

/// Compiles the program, with no path of this machine in it. Returns where it is.
fn compile(root: &Path, out: &Path) -> Result<PathBuf> {
    let target = out.join("build");
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let mut flags = format!("-C target-feature=+crt-static --remap-path-prefix={}=/memtrace", root.display());
    if let Some(home) = home {
        write!(flags, " --remap-path-prefix={}=/cargo", home.display())?;
    }
    write!(flags, " --remap-path-prefix={}=/build", target.display())?;
    process::run(
        process::command("cargo")
            .current_dir(root)
            .env("RUSTFLAGS", flags)
            .env("CARGO_PROFILE_RELEASE_STRIP", "debuginfo")
            .args([
                "build",
                "--release",
                "--locked",
                "-p",
                "memtrace",
                "--bin",
                "memtrace",
                "--target",
                TARGET,
            ])
            .arg("--target-dir")
            .arg(&target),
    )?;
    Ok(target.join(TARGET).join("release/memtrace"))
}

/// Puts all files where they are installed.
fn fill(root: &Path, stage: &Path, program: &Path) -> Result<()> {
    let put = |path: &str, text: &[u8]| -> Result<()> {
        let path = stage.join(path);
        fs::create_dir_all(path.parent().unwrap_or(stage))?;
        fs::write(&path, text).with_context(|| path.display().to_string())
    };
    let said = |arguments: &[&str]| process::capture(Command::new(program).args(arguments));
    put("usr/bin/memtrace", &[])?;
    fs::copy(program, stage.join("usr/bin/memtrace"))?;
    for (shell, path) in COMPLETIONS {
        put(path, said(&["completions", shell])?.as_bytes())?;
    }
    put("usr/share/man/man1/memtrace.1", said(&["man"])?.as_bytes())?;
    for name in commands(&said(&["completions", "bash"])?) {
        put(&format!("usr/share/man/man1/memtrace-{name}.1"), said(&["man", &name])?.as_bytes())?;
    }
    for name in ["README.md", "CHANGELOG.md"].iter().chain(&LICENCES) {
        put(&format!("usr/share/doc/memtrace/{name}"), &fs::read(root.join(name))?)?;
    }
    put("usr/share/doc/memtrace/copyright", copyright(root)?.as_bytes())?;
    let pages = fs::read_dir(stage.join("usr/share/man/man1"))?.collect::<Result<Vec<_>, _>>()?;
    let pages = pages.iter().map(fs::DirEntry::path);
    process::run(Command::new("gzip").arg("-9n").args(pages))
}

/// The commands that `memtrace` completes.
fn commands(completions: &str) -> BTreeSet<String> {
    let known =
        completions.lines().filter_map(|line| line.trim().strip_prefix("memtrace,")?.strip_suffix(')'));
    known.filter(|name| *name != "help" && !name.contains(',')).map(str::to_owned).collect()
}

/// What `cargo metadata` says of a crate.
#[derive(Deserialize)]
struct Crate {
    name: String,
    version: String,
    license: Option<String>,
    repository: Option<String>,
    source: Option<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Crate>,
}

/// Whose work the program is made of, and under which licences.
fn copyright(root: &Path) -> Result<String> {
    let said = process::capture(process::command("cargo").current_dir(root).args([
        "metadata",
        "--locked",
        "--format-version",
        "1",
        "--filter-platform",
        TARGET,
    ]))?;
    let mut metadata: Metadata = serde_json::from_str(&said).context("what cargo metadata said")?;
    metadata.packages.retain(|of| of.source.is_some());
    metadata.packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let mut text = "memtrace is licensed under MIT or Apache-2.0, its eBPF programs under MIT or GPL-2.0: see the files beside this \
                    one.\nIt contains these crates (some of them only serve to build or test it), and glibc \
                    (LGPL-2.1-or-later):\n\n"
        .to_owned();
    for Crate { name, version, license, repository, .. } in metadata.packages {
        let license = license.as_deref().unwrap_or("see its repository");
        writeln!(text, "{name} {version}: {license} {}", repository.as_deref().unwrap_or_default())?;
    }
    Ok(text)
}

/// What dpkg reads.
fn control(stage: &Path, version: &str) -> Result<()> {
    let size = process::capture(Command::new("du").args(["-sk", "--apparent-size"]).arg(stage.join("usr")))?;
    let size = size.split_whitespace().next().unwrap_or("0");
    fs::create_dir_all(stage.join("DEBIAN"))?;
    fs::write(
        stage.join("DEBIAN/control"),
        format!(
            "Package: memtrace\nVersion: {version}\nArchitecture: amd64\nMaintainer: memtrace maintainers <maintainers@memtrace.invalid>\n\
             Installed-Size: {size}\nSection: utils\nPriority: optional\nDescription: finds memory leaks in live processes\n \
             memtrace attaches to a running process, or to the kernel, with eBPF, and shows which\n code allocated the memory that was \
             not freed. The program is static.\n"
        ),
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::commands;

    #[test]
    fn commands_are_those_that_are_completed() {
        let script =
            "            memtrace,attach)\n   memtrace,help)\n  memtrace__help,attach)\n  memtrace,man)\n";
        assert_eq!(commands(script).into_iter().collect::<Vec<_>>(), ["attach", "man"]);
    }
}
