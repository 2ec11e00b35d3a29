//! The hash that ties the committed eBPF object to its sources. `memtrace/build.rs` includes this file too, so
//! that the build refuses an object that no longer matches.
//!
//! Covered is what can change the object's bytes and nothing else: a new dependency of the agent must not ask for
//! a new object.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Error, Result};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// The package that is compiled for the kernel.
const EBPF: &str = "memtrace-ebpf";
/// The directories, below the workspace root, whose `*.rs` and `Cargo.toml` are covered.
pub(crate) const CRATES: [&str; 2] = [EBPF, "memtrace-common"];
/// Where the object and its lock are, below the workspace root.
pub(crate) const PREBUILT: &str = "memtrace-ebpf/prebuilt";

/// Flags for rustc besides paths. The object reads the registers of an architecture, as rustc calls it.
pub(crate) fn rustflags(arch: &str) -> [String; 4] {
    let arch = format!("--cfg=bpf_target_arch=\"{arch}\"");
    ["-Cdebuginfo=2".into(), "-Ctarget-cpu=v3".into(), "-Clink-arg=--btf".into(), arch]
}

/// The objects, made from the same sources: processes', kernel mode's, and that of threads' registers.
pub(crate) const OBJECTS: [Object; 3] = [
    Object { program: "memtrace-ebpf", stem: "memtrace" },
    Object { program: "memtrace-kernel-ebpf", stem: "memtrace-kernel" },
    Object { program: "memtrace-registers-ebpf", stem: "memtrace-registers" },
];

/// One eBPF object.
#[derive(Clone, Copy)]
pub(crate) struct Object {
    /// The binary target of `memtrace-ebpf` that it is made from.
    #[allow(dead_code, reason = "the build script's copy of this module does not build objects")]
    pub(crate) program: &'static str,
    /// What its file names begin with.
    pub(crate) stem: &'static str,
}

impl Object {
    /// File name of the object for an architecture as rustc calls it.
    pub(crate) fn name(self, arch: &str) -> String {
        format!("{}.{arch}.bpf.o", self.stem)
    }

    /// File name of the lock beside the object.
    pub(crate) fn lock_name(self, arch: &str) -> String {
        format!("{}.{arch}.lock", self.stem)
    }
}

/// SHA-256 in lower-case hex.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Hash of everything an architecture's object is made from.
///
/// # Errors
/// A file cannot be read or is not UTF-8; Cargo.lock does not know the eBPF crate.
pub(crate) fn sources(root: &Path, arch: &str) -> Result<String> {
    let mut pieces = vec![("flags".to_owned(), rustflags(arch).join("\n"))];
    let lock = read(&root.join("Cargo.lock"))?;
    let packages = Packages::parse(&lock);
    let mut optional = BTreeMap::new();
    for name in CRATES {
        let directory = root.join(name);
        let manifest = read(&directory.join("Cargo.toml"))?;
        optional.insert(name, optional_dependencies(&manifest));
        pieces.push((format!("{name}/Cargo.toml"), manifest));
        for path in rust_files(&directory)? {
            let label = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
            pieces.push((label, read(&path)?));
        }
    }
    let closure = packages.closure(EBPF, &optional)?;
    pieces.push(("packages".to_owned(), closure.text));
    pieces.push(("workspace".to_owned(), manifest_part(&read(&root.join("Cargo.toml"))?, &closure.direct)));
    Ok(digest(&pieces))
}

/// Lengths keep two different lists of pieces from reading the same.
fn digest(pieces: &[(String, String)]) -> String {
    let mut hash = Sha256::new();
    for piece in pieces.iter().flat_map(|(label, text)| [label, text]) {
        hash.update((piece.len() as u64).to_le_bytes());
        hash.update(piece.as_bytes());
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|error| in_path(path, &error))
}

fn in_path(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Every `*.rs` below a directory, sorted; symbolic links are not followed.
fn rust_files(directory: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut pending = vec![directory.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).map_err(|error| in_path(&directory, &error))? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                pending.push(entry.path());
            } else if entry.path().extension().is_some_and(|extension| extension == "rs") {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    Ok(files)
}

/// Names of a manifest's `[dependencies]` that are `optional = true` on their line: the eBPF build enables none.
fn optional_dependencies(manifest: &str) -> BTreeSet<String> {
    sections(manifest)
        .filter(|(section, line)| *section == "dependencies" && line.contains("optional = true"))
        .filter_map(|(_, line)| key(line))
        .map(str::to_owned)
        .collect()
}

/// The lines of the workspace manifest that reach the object: its edition, its profile as cargo resolves it, and
/// the entries that the eBPF crate and the shared crate inherit.
fn manifest_part(manifest: &str, direct: &BTreeSet<String>) -> String {
    let mut kept = BTreeMap::new();
    // `bpf` inherits from `release`: what it sets itself wins, and is not covered twice.
    for profile in ["release", "bpf"] {
        for (section, line) in sections(manifest) {
            let Some(rest) = section.strip_prefix("profile.").and_then(|name| name.strip_prefix(profile))
            else {
                continue;
            };
            if (rest.is_empty() || rest.starts_with('.')) && key(line).is_some_and(|key| key != "inherits") {
                kept.insert(format!("profile{rest}.{}", key(line).unwrap_or_default()), line);
            }
        }
    }
    for (section, line) in sections(manifest) {
        let Some(key) = key(line) else { continue };
        let inherited = section == "workspace.package" && key == "edition"
            || section == "workspace.dependencies" && direct.contains(key);
        if inherited {
            kept.insert(format!("{section}.{key}"), line);
        }
    }
    kept.iter().map(|(name, line)| format!("{name}: {line}\n")).collect()
}

/// Lines of a TOML file that are not blank or comments, each with the name of its section.
fn sections(toml: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut section = "";
    toml.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).filter_map(
        move |line| match line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            Some(name) => {
                section = name;
                None
            }
            None => Some((section, line)),
        },
    )
}

/// `name` of `name = …` and of `name.workspace = …`.
fn key(line: &str) -> Option<&str> {
    let (key, _) = line.split_once('=')?;
    key.split('.').next().map(str::trim)
}

/// The packages of a Cargo.lock.
struct Packages<'a>(Vec<Package<'a>>);

#[derive(Default)]
struct Package<'a> {
    name: &'a str,
    version: &'a str,
    source: &'a str,
    checksum: &'a str,
    /// `name`, or `name version` where the name alone is ambiguous, with the source after that if need be.
    dependencies: Vec<&'a str>,
}

/// What the object is compiled from, per Cargo.lock.
struct Closure {
    /// A line per package, sorted.
    text: String,
    /// The packages of `CRATES` and what they name themselves.
    direct: BTreeSet<String>,
}

impl<'a> Packages<'a> {
    /// Relies on the layout in which cargo writes the file: a line per field and per dependency.
    fn parse(text: &'a str) -> Self {
        let mut packages = Vec::new();
        for block in text.split("[[package]]").skip(1) {
            let mut package = Package::default();
            for line in block.lines().map(str::trim) {
                if let Some(dependency) = line.strip_prefix('"') {
                    package.dependencies.push(dependency.trim_end_matches(['"', ',']));
                } else if let Some((field, value)) = line.split_once(" = ") {
                    let value = value.trim_matches('"');
                    match field {
                        "name" => package.name = value,
                        "version" => package.version = value,
                        "source" => package.source = value,
                        "checksum" => package.checksum = value,
                        _ => {}
                    }
                }
            }
            packages.push(package);
        }
        Self(packages)
    }

    fn find(&self, dependency: &str) -> Option<&Package<'a>> {
        let mut words = dependency.split(' ');
        let (name, version) = (words.next()?, words.next());
        self.0.iter().find(|package| package.name == name && version.is_none_or(|v| v == package.version))
    }

    /// Everything reachable from a package, itself included, without the given packages' optional dependencies.
    /// Procedural macros and what they are made of are in it: they write code.
    fn closure(&self, from: &str, optional: &BTreeMap<&str, BTreeSet<String>>) -> Result<Closure> {
        let mut seen = BTreeSet::new();
        let mut direct: BTreeSet<String> = CRATES.map(str::to_owned).into();
        let mut pending = vec![from];
        while let Some(dependency) = pending.pop() {
            let package = self
                .find(dependency)
                .ok_or_else(|| Error::other(format!("Cargo.lock has no package {dependency}")))?;
            if !seen.insert((package.name, package.version, package.source, package.checksum)) {
                continue;
            }
            for dependency in &package.dependencies {
                let name = dependency.split(' ').next().unwrap_or_default();
                if let Some(optional) = optional.get(package.name) {
                    if optional.contains(name) {
                        continue;
                    }
                    direct.insert(name.to_owned());
                }
                pending.push(dependency);
            }
        }
        let text = seen
            .iter()
            .map(|(name, version, source, checksum)| format!("{name} {version} {source} {checksum}\n"))
            .collect();
        Ok(Closure { text, direct })
    }
}

// The path holds for the build script's copy of this module as well: rustfmt follows both.
#[cfg(test)]
#[path = "source_hash/tests.rs"]
mod tests;
