//! The agent and the programs of the targets, built below the target directory.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process;

/// What the agent's file is called: so are its processes in the kernel's log, where other ones may stand too.
pub(super) const AGENT: &str = "torture-agent";

/// What was built.
pub(super) struct Built {
    pub(super) agent: PathBuf,
    /// Where the targets' programs are.
    pub(super) programs: PathBuf,
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
        // Gone first: one that somebody runs cannot be written to.
        let agent = programs.join(AGENT);
        let _ = fs::remove_file(&agent);
        fs::copy(target.join("debug/memtrace"), &agent).with_context(|| agent.display().to_string())?;
        let fixtures = root.join("xtask/fixtures/torture");
        for source in
            ["churn.c", "children.c", "again.c", "host.c", "leaving.c", "leaderless.c", "handlers.c"]
        {
            compile("cc", &fixtures.join(source), &programs.join(source.trim_end_matches(".c")), &[])?;
        }
        compile("c++", &fixtures.join("throwing.cpp"), &programs.join("throwing"), &["-std=c++17"])?;
        compile("cc", &fixtures.join("plugin.c"), &programs.join("plugin.so"), &["-shared", "-fPIC"])?;
        Ok(Self { agent, programs })
    }
}

fn compile(compiler: &str, source: &Path, program: &Path, flags: &[&str]) -> Result<()> {
    let common = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-pthread"];
    process::run(process::command(compiler).args(common).args(flags).arg(source).arg("-o").arg(program))
}
