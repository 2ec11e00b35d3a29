//! The agent and the programs that are traced, built below the target directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;

/// Libraries that the process with many mapped files maps beside its own.
const LIBRARIES: usize = 50;

/// What was built.
pub(super) struct Built {
    pub(super) agent: PathBuf,
    /// Another build of it, to compare with.
    pub(super) against: Option<PathBuf>,
    /// `pair.c` with frame pointers, and without.
    pub(super) pair: PathBuf,
    pub(super) pair_omit: PathBuf,
    /// The same with `operator new`. None without a C++ compiler.
    pub(super) pair_new: Option<PathBuf>,
    pub(super) idle: PathBuf,
    pub(super) live: PathBuf,
    pub(super) heap: PathBuf,
    pub(super) busy: PathBuf,
    /// None without a C++ compiler.
    pub(super) objects: Option<PathBuf>,
    /// A script, as it lies in the checkout.
    pub(super) json: PathBuf,
    pub(super) libraries: Vec<PathBuf>,
    /// Where sources of fixtures are.
    pub(super) fixtures: PathBuf,
}

impl Built {
    /// Builds the agent for release, and the fixtures with `cc` and `c++`.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let target = root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        process::run(
            process::command("cargo")
                .current_dir(root)
                .args(["build", "--quiet", "--release", "--package", "memtrace", "--target-dir"])
                .arg(&target),
        )?;
        let directory = target.join("bench");
        fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
        let fixtures = root.join("xtask/fixtures");
        let compile = |compiler: &str, source: &str, name: &str, flag: &str| {
            let program = directory.join(name);
            compile(compiler, &fixtures.join(source), &program, &[flag])?;
            anyhow::Ok(program)
        };
        let with_frame_pointers = |source, name| compile("cc", source, name, "-fno-omit-frame-pointer");
        let objects = if is_installed("c++") {
            Some(compile("c++", "objects.cpp", "objects", "-fno-omit-frame-pointer")?)
        } else {
            eprintln!("c++ is not installed: the C++ program is left out");
            None
        };
        let pair_new = objects.as_ref().map(|_| compile("c++", "pair.c", "pair-new", "-xc++")).transpose()?;
        Ok(Self {
            agent: target.join("release/memtrace"),
            against: None,
            pair: with_frame_pointers("pair.c", "pair")?,
            pair_omit: compile("cc", "pair.c", "pair-omit", "-fomit-frame-pointer")?,
            pair_new,
            idle: with_frame_pointers("idle.c", "idle")?,
            live: with_frame_pointers("live.c", "live")?,
            heap: with_frame_pointers("heap.c", "heap")?,
            busy: with_frame_pointers("busy.c", "busy")?,
            objects,
            json: fixtures.join("json_load.py"),
            libraries: libraries(&directory)?,
            fixtures,
        })
    }
}

/// Whether a program can be started that knows `--version`.
pub(super) fn is_installed(program: &str) -> bool {
    process::capture(process::command(program).arg("--version")).is_ok()
}

/// `-fno-optimize-sibling-calls`: a tail call would leave fewer frames than asked for.
pub(super) fn compile(compiler: &str, source: &Path, program: &Path, flags: &[&str]) -> Result<()> {
    let common = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread", "-fno-optimize-sibling-calls"];
    process::run(process::command(compiler).args(common).args(flags).arg(source).arg("-o").arg(program))
}

/// Small shared objects, each a file of its own.
fn libraries(directory: &Path) -> Result<Vec<PathBuf>> {
    let first = directory.join("libbench0.so");
    let source = directory.join("library.c");
    fs::write(&source, "int bench_library(int x) { return x + 1; }\n")
        .with_context(|| source.display().to_string())?;
    compile("cc", &source, &first, &["-shared", "-fPIC"])?;
    let mut libraries = vec![first.clone()];
    for number in 1..LIBRARIES {
        let library = directory.join(format!("libbench{number}.so"));
        fs::copy(&first, &library).with_context(|| library.display().to_string())?;
        libraries.push(library);
    }
    Ok(libraries)
}
