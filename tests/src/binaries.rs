//! Where programs are.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// Where cargo puts the programs of the profile that this test was built with.
fn programs_directory() -> PathBuf {
    let test = std::env::current_exe().expect("the path of the running test");
    // A test is target/PROFILE/deps/NAME-HASH.
    let directory = test.parent().expect("the test lies in a directory");
    let directory =
        if directory.ends_with("deps") { directory.parent().unwrap_or(directory) } else { directory };
    directory.to_owned()
}

/// The path of a fixture program of this package; cargo has built it before the test.
///
/// # Panics
/// If there is none of this name.
#[must_use]
pub fn fixture_path(name: &str) -> PathBuf {
    let path = programs_directory().join(name);
    assert!(path.exists(), "no fixture program {}", path.display());
    path
}

/// The path of the agent: `MEMTRACE_BIN` if that is set; otherwise the one beside this test, which cargo brings
/// up to date first, so that no test is passed by yesterday's agent.
///
/// # Panics
/// If it cannot be built.
#[must_use]
pub fn agent_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("MEMTRACE_BIN") {
            return path.into();
        }
        let directory = programs_directory();
        // Set by `cargo test`; without it a copied test runs where there is no cargo.
        if let Some(cargo) = std::env::var_os("CARGO") {
            build(Path::new(&cargo), &directory);
        }
        let path = directory.join("memtrace");
        assert!(path.exists(), "no agent at {}: build it, or name it in MEMTRACE_BIN", path.display());
        path
    })
}

fn build(cargo: &Path, directory: &Path) {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        None | Some("debug") => "dev",
        Some(profile) => profile,
    };
    let output = Command::new(cargo)
        .args(["build", "--quiet", "--package", "memtrace", "--bin", "memtrace", "--profile", profile])
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .env("CARGO_TARGET_DIR", directory.parent().unwrap_or(directory))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "cargo build -p memtrace: {}", String::from_utf8_lossy(&output.stderr));
}
