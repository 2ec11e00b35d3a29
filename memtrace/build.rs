//! Finds the prebuilt eBPF objects, and refuses one that its sources no longer describe. They need another
//! compiler than the agent, so they are committed: see `cargo xtask build-ebpf --help`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../xtask/src/source_hash.rs"]
mod source_hash;

/// Names another object than the committed one, absolute or relative to the workspace; the others are taken from the
/// same directory. Nothing is checked then.
const OVERRIDE: &str = "MEMTRACE_BPF_OBJECT";

/// What the agent's source calls the paths of the objects.
const VARIABLES: [&str; 3] =
    ["MEMTRACE_BPF_OBJECT_PATH", "MEMTRACE_KERNEL_BPF_OBJECT_PATH", "MEMTRACE_REGISTERS_BPF_OBJECT_PATH"];

fn main() {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    match find_objects() {
        Ok(paths) => {
            for (variable, path) in VARIABLES.iter().zip(paths) {
                println!("cargo::rustc-env={variable}={}", path.display());
            }
        }
        Err(message) => println!("cargo::error={message}"),
    }
}

fn find_objects() -> Result<Vec<PathBuf>, String> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let root = package.parent().ok_or("the package has no parent directory")?;
    let arch =
        env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| format!("CARGO_CFG_TARGET_ARCH: {error}"))?;
    if let Some(path) = env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
        let first = root.join(path);
        let others = source_hash::OBJECTS.into_iter().skip(1);
        return std::iter::once(first.clone())
            .chain(others.map(|object| first.with_file_name(object.name(&arch))))
            .map(|path| {
                println!("cargo::rerun-if-changed={}", path.display());
                path.canonicalize().map_err(|error| format!("{OVERRIDE}: {}: {error}", path.display()))
            })
            .collect();
    }
    rerun_if_changed(root);
    for name in source_hash::CRATES {
        if !root.join(name).is_dir() {
            return Err(format!(
                "{} is missing: memtrace builds only inside its workspace, which holds its eBPF object",
                root.join(name).display()
            ));
        }
    }
    source_hash::OBJECTS.into_iter().map(|object| check(root, object, &arch)).collect()
}

/// A crate's directory stands for all below it, files that are yet to come among them.
fn rerun_if_changed(root: &Path) {
    let files = ["Cargo.toml", "Cargo.lock", "xtask/src/source_hash.rs"];
    for name in source_hash::CRATES.iter().chain(&files) {
        println!("cargo::rerun-if-changed={}", root.join(name).display());
    }
}

/// A committed object, when it is of these sources.
fn check(root: &Path, object: source_hash::Object, arch: &str) -> Result<PathBuf, String> {
    const REMEDY: &str = "run `cargo xtask build-ebpf --all`";
    let directory = root.join(source_hash::PREBUILT);
    let (object, lock) = (directory.join(object.name(arch)), directory.join(object.lock_name(arch)));
    let unreadable = |path: &Path, error| format!("{}: {error}: {REMEDY}", path.display());
    let bytes = fs::read(&object).map_err(|error| unreadable(&object, error))?;
    let text = fs::read_to_string(&lock).map_err(|error| unreadable(&lock, error))?;
    let locked = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let sources =
        source_hash::sources(root, arch).map_err(|error| format!("sources of the eBPF object: {error}"))?;
    if locked("sources ") != Some(sources.as_str()) {
        return Err(format!("{} is stale: {REMEDY}", object.display()));
    }
    if locked("object ") != Some(source_hash::sha256(&bytes).as_str()) {
        return Err(format!("{} is not the object its lock names: {REMEDY}", object.display()));
    }
    Ok(object)
}
