//! What suites use of this system: its C compiler and some programs.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::process;

/// Programs that suites run or trace.
const TOOLS: [&str; 8] = ["bash", "nsenter", "objcopy", "redis-server", "setpriv", "sh", "stdbuf", "unshare"];

/// What `stdbuf` loads into programs.
const STDBUF: &str = "/usr/libexec/coreutils/libstdbuf.so";

/// What `cc` starts; it finds them by their names or beside its own files.
const COMPILER: [&str; 5] = ["cc", "cc1", "collect2", "as", "ld"];

/// Paths of the programs, to be placed where they are here with what they are linked to.
pub(super) fn programs() -> Result<Vec<PathBuf>> {
    let mut programs = Vec::new();
    for tool in TOOLS {
        programs.push(
            find(tool).with_context(|| format!("suites use {tool}, which is not installed (see .ci/run)"))?,
        );
    }
    for part in COMPILER {
        let told = ask(&format!("-print-prog-name={part}"))?;
        programs.push(if told.starts_with('/') { told.into() } else { find(part).context(told)? });
    }
    programs.extend([ask("-print-file-name=liblto_plugin.so")?.into(), STDBUF.into()]);
    Ok(programs)
}

/// Headers, start files and libraries that C programs are compiled with.
pub(super) fn files() -> Result<Vec<PathBuf>> {
    let packages =
        [format!("libgcc-{}-dev", ask("-dumpversion")?), "libc6-dev".into(), "linux-libc-dev".into()];
    let listed = process::capture(process::command("dpkg").arg("-L").args(&packages))?;
    let is_used = |path: &PathBuf| path.is_file() && !path.starts_with("/usr/share");
    let files: Vec<PathBuf> = listed.lines().map(PathBuf::from).filter(is_used).collect();
    ensure!(!files.is_empty(), "nothing in {packages:?}");
    Ok(files)
}

fn ask(question: &str) -> Result<String> {
    Ok(process::capture(process::command("cc").arg(question))?.trim().to_owned())
}

fn find(program: &str) -> Option<PathBuf> {
    let directories = ["/usr/bin", "/usr/sbin"].iter();
    directories.map(|directory| PathBuf::from(directory).join(program)).find(|path| path.is_file())
}
