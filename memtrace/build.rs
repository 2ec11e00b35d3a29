//! Finds the prebuilt eBPF object, and refuses one that its sources no longer describe. The object needs another
//! compiler than the agent, so it is committed: see `cargo xtask build-ebpf --help`.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "../xtask/src/source_hash.rs"]
mod source_hash;

/// Names another object than the committed one, absolute or relative to the workspace; nothing is checked then.
const OVERRIDE: &str = "MEMTRACE_BPF_OBJECT";

fn main() {
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    match find_object() {
        Ok(path) => println!("cargo::rustc-env=MEMTRACE_BPF_OBJECT_PATH={}", path.display()),
        Err(message) => println!("cargo::error={message}"),
    }
}

fn find_object() -> Result<PathBuf, String> {
    let package = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").ok_or("CARGO_MANIFEST_DIR is not set")?);
    let root = package.parent().ok_or("the package has no parent directory")?;
    if let Some(path) = env::var_os(OVERRIDE).filter(|path| !path.is_empty()) {
        let path = root.join(path);
        println!("cargo::rerun-if-changed={}", path.display());
        return path.canonicalize().map_err(|error| format!("{OVERRIDE}: {}: {error}", path.display()));
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
    let arch =
        env::var("CARGO_CFG_TARGET_ARCH").map_err(|error| format!("CARGO_CFG_TARGET_ARCH: {error}"))?;
    check(root, &arch)
}

/// A crate's directory stands for all below it, files that are yet to come among them.
fn rerun_if_changed(root: &Path) {
    let files = ["Cargo.toml", "Cargo.lock", "xtask/src/source_hash.rs"];
    for name in source_hash::CRATES.iter().chain(&files) {
        println!("cargo::rerun-if-changed={}", root.join(name).display());
    }
}

/// The committed object of an architecture, when it is of these sources.
fn check(root: &Path, arch: &str) -> Result<PathBuf, String> {
    const REMEDY: &str = "run `cargo xtask build-ebpf --all`";
    let directory = root.join(source_hash::PREBUILT);
    let object = directory.join(source_hash::object_name(arch));
    let lock = directory.join(source_hash::lock_name(arch));
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
