//! The agent and the programs of the targets, built below the target directory.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::kinds;
use crate::process;

/// What the agent's file is called: so are its processes in the kernel's log, where other ones may stand too.
pub(super) const AGENT: &str = "torture-agent";

/// What was built.
pub(super) struct Built {
    pub(super) agent: PathBuf,
    /// Where the targets' programs are.
    pub(super) programs: PathBuf,
    /// Held as long as they are used.
    _lock: File,
}

impl Built {
    /// Builds the agent as the tests do, and the fixtures with `cc` and `c++`.
    pub(super) fn new(root: &Path) -> Result<Self> {
        let target = root.join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()));
        process::run(
            process::command("cargo")
                .current_dir(root)
                .args(["build", "--quiet", "--package", "memtrace", "--target-dir"])
                .arg(&target),
        )?;
        let programs = target.join("torture");
        fs::create_dir_all(&programs).with_context(|| programs.display().to_string())?;
        // Another run would write to the same files, and remove breakpoints of this one's agents.
        let lock = programs.join("lock");
        let lock = File::create(&lock).with_context(|| lock.display().to_string())?;
        lock.try_lock()
            .context("another run uses the same target directory: wait for it, or set CARGO_TARGET_DIR")?;
        // Removed first: a running program cannot be written to.
        let agent = programs.join(AGENT);
        let _ = fs::remove_file(&agent);
        fs::copy(target.join("debug/memtrace"), &agent).with_context(|| agent.display().to_string())?;
        let fixtures = root.join("xtask/fixtures/torture");
        let flags = own_libraries(&programs)?;
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        for source in
            ["churn.c", "children.c", "again.c", "host.c", "leaving.c", "leaderless.c", "handlers.c"]
        {
            compile("cc", &fixtures.join(source), &programs.join(source.trim_end_matches(".c")), &flags)?;
        }
        let flags = [&flags[..], &["-std=c++17"]].concat();
        compile("c++", &fixtures.join("throwing.cpp"), &programs.join("throwing"), &flags)?;
        compile("cc", &fixtures.join("plugin.c"), &programs.join("plugin.so"), &["-shared", "-fPIC"])?;
        Ok(Self { agent, programs, _lock: lock })
    }
}

fn compile(compiler: &str, source: &Path, program: &Path, flags: &[&str]) -> Result<()> {
    let common = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];
    process::run(process::command(compiler).args(common).args(flags).arg(source).arg("-o").arg(program))
}

/// Copies the C library, its loader and other allocators for the targets, and returns the options that link with them.
/// Files of their own: detaching from a file also removes, from all processes, breakpoints that others left there.
fn own_libraries(programs: &Path) -> Result<[String; 2]> {
    let directory = programs.join("lib");
    fs::create_dir_all(&directory).with_context(|| directory.display().to_string())?;
    let copy = |file: &Path| {
        let to = directory.join(file.file_name().unwrap_or_default());
        let _ = fs::remove_file(&to);
        fs::copy(file, &to).with_context(|| file.display().to_string())?;
        anyhow::Ok(to)
    };
    let maps = fs::read_to_string("/proc/self/maps").context("own mappings")?;
    let mapped = |name: &str| {
        let files = maps.lines().filter_map(|line| line.split_whitespace().nth(5).map(Path::new));
        files
            .into_iter()
            .find(|file| file.file_name().is_some_and(|file| file.to_string_lossy().starts_with(name)))
    };
    copy(mapped("libc.so").context("a C library")?)?;
    let loader = copy(mapped("ld-").context("a dynamic loader")?)?;
    for name in kinds::libraries() {
        let answer = process::capture(process::command("cc").arg(format!("-print-file-name={name}")))?;
        // A name that it does not know comes back as it is: the kind is left out later.
        if answer.trim() != name {
            copy(Path::new(answer.trim()))?;
        }
    }
    Ok([format!("-Wl,-rpath,{}", directory.display()), format!("-Wl,--dynamic-linker={}", loader.display())])
}
