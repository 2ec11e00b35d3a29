//! `cargo xtask build-ebpf`: builds the eBPF objects, or checks that the committed ones can be reproduced.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};

use crate::bpf_tools::{Linker, Rustc, TARGET};
use crate::lock::{Lock, Verdict};
use crate::source_hash::{OBJECTS, Object};
use crate::{process, source_hash};

/// Nothing is wrong with the sources, but the committed object cannot be checked with the installed programs.
const EXIT_OTHER_TOOLCHAIN: u8 = 3;
/// What the agent runs on, as rustc calls it. No object is like another: each reads its machine's registers.
const ARCHITECTURES: [&str; 2] = ["x86_64", "aarch64"];
const PACKAGE: &str = "memtrace-ebpf";
/// The crates whose unstable features Debian's stable compiler is to accept.
const UNSTABLE_CRATES: &str = "aya_ebpf,memtrace_ebpf,memtrace_kernel_ebpf";

/// Build the eBPF objects that the agent carries
///
/// Writes memtrace-ebpf/prebuilt/: the objects, and for each a lock that says what it was made from, for each
/// architecture.
#[derive(clap::Args)]
#[command(after_help = "Exit codes of --check: 0 reproduced; 1 not reproduced, or stale; \
                        3 not reproduced, and built by other programs than the lock names")]
pub(crate) struct Args {
    /// Architecture of the machines to trace
    #[arg(long, value_parser = ARCHITECTURES, default_value = std::env::consts::ARCH)]
    arch: String,
    /// Build for every architecture
    #[arg(long, conflicts_with = "arch")]
    all: bool,
    /// Build from clean elsewhere and compare with the committed object
    #[arg(long)]
    check: bool,
    /// Get missing packages of the distribution (as root)
    #[arg(long)]
    install: bool,
}

impl Args {
    fn architectures(&self) -> Vec<&str> {
        if self.all { ARCHITECTURES.to_vec() } else { vec![&self.arch] }
    }
}

/// The committed files of an object.
struct Prebuilt {
    object: PathBuf,
    lock: PathBuf,
}

impl Prebuilt {
    fn of(root: &Path, object: Object, arch: &str) -> Self {
        let directory = root.join(source_hash::PREBUILT);
        Self { object: directory.join(object.name(arch)), lock: directory.join(object.lock_name(arch)) }
    }
}

pub(crate) fn run(root: &Path, args: &Args) -> Result<ExitCode> {
    if args.check {
        return check(root, args);
    }
    for arch in args.architectures() {
        for Built { object, path, lock } in build(root, arch, &root.join("target/bpf"), args.install)? {
            write(&Prebuilt::of(root, object, arch), &path, &lock)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Every object is looked at before the verdict: that of the worst.
fn check(root: &Path, args: &Args) -> Result<ExitCode> {
    let mut committed = Vec::new();
    for arch in args.architectures() {
        let sources = source_hash::sources(root, arch)?;
        let locks = OBJECTS.map(|object| read_committed(&Prebuilt::of(root, object, arch), &sources));
        committed.push((arch, locks.into_iter().collect::<Result<Vec<_>>>()?));
    }
    let directory = root.join("target/bpf-check");
    if directory.exists() {
        fs::remove_dir_all(&directory).with_context(|| directory.display().to_string())?;
    }
    let mut verdicts = Vec::new();
    for (arch, expected) in committed {
        let built = build(root, arch, &directory, args.install)?;
        verdicts.extend(
            expected.iter().zip(&built).map(|(expected, built)| report(expected, &built.lock, &built.path)),
        );
    }
    Ok(exit_code(&verdicts))
}

fn exit_code(verdicts: &[Verdict]) -> ExitCode {
    if verdicts.contains(&Verdict::Differs) {
        ExitCode::FAILURE
    } else if verdicts.contains(&Verdict::OtherToolchain) {
        ExitCode::from(EXIT_OTHER_TOOLCHAIN)
    } else {
        ExitCode::SUCCESS
    }
}

/// The committed lock, when it is of these sources and of the object beside it.
fn read_committed(committed: &Prebuilt, sources: &str) -> Result<Lock> {
    const REMEDY: &str = "run `cargo xtask build-ebpf --all`";
    let text = fs::read_to_string(&committed.lock)
        .with_context(|| format!("{}: {REMEDY}", committed.lock.display()))?;
    let lock = Lock::parse(&text).with_context(|| format!("{}: {REMEDY}", committed.lock.display()))?;
    let bytes =
        fs::read(&committed.object).with_context(|| format!("{}: {REMEDY}", committed.object.display()))?;
    ensure!(lock.sources == sources, "{} is stale: {REMEDY}", committed.object.display());
    ensure!(
        lock.object == source_hash::sha256(&bytes),
        "{} is not the object its lock names: {REMEDY}",
        committed.object.display()
    );
    Ok(lock)
}

fn report(expected: &Lock, built: &Lock, object: &Path) -> Verdict {
    let both = || format!("--- committed\n{}--- built\n{}", expected.render(), built.render());
    let verdict = expected.judge(built);
    match verdict {
        Verdict::Reproduced => println!("reproduced: {}", built.object),
        Verdict::Differs => println!("not reproduced, by the same programs:\n{}", both()),
        Verdict::OtherToolchain => {
            println!("not reproduced, and the installed programs are not those of the lock:\n{}", both());
        }
    }
    println!("object: {}", object.display());
    verdict
}

/// The lock goes last: an interrupted run leaves a pair that the build refuses.
fn write(committed: &Prebuilt, object: &Path, lock: &Lock) -> Result<()> {
    if let Some(directory) = committed.object.parent() {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
    }
    let size = fs::copy(object, &committed.object)
        .with_context(|| format!("{} to {}", object.display(), committed.object.display()))?;
    fs::write(&committed.lock, lock.render()).with_context(|| committed.lock.display().to_string())?;
    println!("{}: {size} bytes", committed.object.display());
    Ok(())
}

/// An object that was built.
struct Built {
    object: Object,
    path: PathBuf,
    lock: Lock,
}

/// Builds every object below `directory`, in the order of `OBJECTS`.
fn build(root: &Path, arch: &str, directory: &Path, install: bool) -> Result<Vec<Built>> {
    // Before the compiler reads them: a file saved meanwhile must make the object stale.
    let sources = source_hash::sources(root, arch)?;
    let rustc = Rustc::find(install)?;
    let linker = Linker::find(&root.join("target"), &rustc)?;
    let programs = compile(root, arch, directory, &rustc, &linker)?;
    let strip = |object: Object| {
        let path = directory.join(object.name(arch));
        linker.strip(&programs.join(object.program), &path)?;
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        let (sources, toolchain) = (sources.clone(), linker.toolchain(&rustc));
        Ok(Built { object, path, lock: Lock { sources, object: source_hash::sha256(&bytes), toolchain } })
    };
    OBJECTS.into_iter().map(strip).collect()
}

/// Returns the directory of the compiled programs.
fn compile(root: &Path, arch: &str, directory: &Path, rustc: &Rustc, linker: &Linker) -> Result<PathBuf> {
    let mut flags = source_hash::rustflags(arch).to_vec();
    flags.push(format!("-Clinker={}", utf8(&linker.path())?));
    // The object holds file names: they must not depend on where the checkout and cargo's cache are.
    flags.push(format!("--remap-path-prefix={}=/memtrace", utf8(root)?));
    flags.push(format!("--remap-path-prefix={}=/cargo", utf8(&cargo_home()?)?));
    process::run(
        linker
            .cargo()
            .current_dir(root)
            .args(["build", "--locked", "--ignore-rust-version", "--profile", "bpf"])
            .args(["--package", PACKAGE, "--target", TARGET, "--target-dir"])
            .arg(directory)
            .env("RUSTC", rustc.path())
            .env("RUSTC_WRAPPER", "")
            .env("RUSTC_BOOTSTRAP", UNSTABLE_CRATES)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
            .env("LD_LIBRARY_PATH", linker.library_path()),
    )
    .with_context(|| format!("{PACKAGE} does not build; the committed objects were left as they are"))?;
    Ok(directory.join(TARGET).join("bpf"))
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("CARGO_HOME") {
        return Ok(path.into());
    }
    let home = std::env::home_dir().context("neither CARGO_HOME nor HOME is set")?;
    Ok(home.join(".cargo"))
}

fn utf8(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) => Ok(text),
        None => bail!("{}: rustc takes UTF-8 paths only", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Toolchain;

    fn lock(object: &[u8]) -> Lock {
        let toolchain = Toolchain {
            linker: "l".into(),
            linker_llvm: "22".into(),
            rustc: "1".into(),
            rustc_commit: "c".into(),
            rustc_llvm: "22".into(),
        };
        Lock { sources: "aa".into(), object: source_hash::sha256(object), toolchain }
    }

    #[test]
    fn a_committed_object_is_trusted_only_with_its_sources_and_lock() {
        let directory = tempfile::tempdir().unwrap();
        let committed = Prebuilt::of(directory.path(), OBJECTS[0], "x86_64");
        let error = |sources| format!("{:#}", read_committed(&committed, sources).unwrap_err());
        assert!(
            error("aa").contains("memtrace.x86_64.lock: run `cargo xtask build-ebpf --all`"),
            "{}",
            error("aa")
        );

        let fresh = directory.path().join("fresh");
        fs::write(&fresh, "object").unwrap();
        write(&committed, &fresh, &lock(b"object")).unwrap();
        assert_eq!(read_committed(&committed, "aa").unwrap(), lock(b"object"));
        assert!(error("bb").contains("is stale"), "{}", error("bb"));

        fs::write(&committed.object, "changed").unwrap();
        assert!(error("aa").contains("not the object its lock names"), "{}", error("aa"));
    }
    #[test]
    fn the_worst_verdict_is_that_of_all() {
        let code = |verdicts: &[Verdict]| format!("{:?}", exit_code(verdicts));
        let (good, bad, other) = (Verdict::Reproduced, Verdict::Differs, Verdict::OtherToolchain);
        assert_eq!(code(&[good, other]), format!("{:?}", ExitCode::from(EXIT_OTHER_TOOLCHAIN)));
        assert_eq!(code(&[other, bad, good]), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(&[good, good]), format!("{:?}", ExitCode::SUCCESS));
    }
}
