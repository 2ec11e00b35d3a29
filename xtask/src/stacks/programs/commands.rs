//! Programs that do their work and end.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;
use crate::stacks::subject::{Subject, Trace, finish};

/// Commits in the repository, and the lines that each changes.
const COMMITS: usize = 300;
const LINES: usize = 40;

/// A command line.
fn words(words: &[&dyn AsRef<OsStr>]) -> Trace {
    Trace::Run(words.iter().map(|word| word.as_ref().to_string_lossy().into_owned()).collect())
}

/// log, blame and repack: each in a process of its own, in a repository of our making. Where their output can go to a
/// file, it does.
pub(super) fn git(_: &Path) -> Result<Subject> {
    let mut subject = Subject::new()?;
    let repository = subject.file("repository");
    finish(Command::new("git").args(["init", "--quiet", "--initial-branch=main"]).arg(&repository))?;
    let history = subject.file("history");
    fs::write(&history, commits()).with_context(|| history.display().to_string())?;
    let import = Command::new("git")
        .arg("-C")
        .arg(&repository)
        .args(["fast-import", "--quiet"])
        .stdin(fs::File::open(&history)?)
        .status()?;
    anyhow::ensure!(import.success(), "git fast-import: {import}");
    finish(Command::new("git").arg("-C").arg(&repository).args(["reset", "--quiet", "--hard"]))?;
    let log = format!("--output={}", subject.file("log").display());
    subject.trace(words(&[&"git", &"-C", &repository, &"log", &"-p", &"-M", &"-C", &"--stat", &log]));
    subject.trace(words(&[&"git", &"-C", &repository, &"diff", &"--patience", &log, &"HEAD~100", &"HEAD"]));
    let packs = repository.join(".git/packed");
    subject.trace(words(&[
        &"git",
        &"-C",
        &repository,
        &"pack-objects",
        &"--quiet",
        &"--all",
        &"--delta-base-offset",
        &"--no-reuse-delta",
        &packs,
    ]));
    subject.trace(words(&[&"git", &"-C", &repository, &"blame", &"-C", &"-M", &"text"]));
    Ok(subject)
}

/// A history for `git fast-import`: a file of which every commit changes some lines, and another that grows.
fn commits() -> String {
    let mut text = String::new();
    let mut lines: Vec<String> = (0..2000).map(|line| format!("line {line}\n")).collect();
    for commit in 0..COMMITS {
        for change in 0..LINES {
            let line = (commit * 7919 + change * 104_729) % lines.len();
            if let Some(line) = lines.get_mut(line) {
                *line = format!("changed by commit {commit}, {change}\n");
            }
        }
        let content = lines.concat();
        let message = format!("commit {commit}");
        let _ = write!(
            text,
            "commit refs/heads/main\ncommitter A <a@example.org> {} +0000\ndata {}\n{message}\n\
             M 100644 inline text\ndata {}\n{content}\nM 100644 inline dir{}/copy{commit}\ndata {}\n{content}\n\n",
            1_000_000_000 + commit,
            message.len(),
            content.len(),
            commit % 7,
            content.len(),
        );
    }
    text
}

/// A large C++ program, on C++ with much of the standard library.
pub(super) fn clang(fixtures: &Path) -> Result<Subject> {
    let mut subject = Subject::new()?;
    let (source, object) = (fixtures.join("load.cpp"), subject.file("load.o"));
    subject.trace(words(&[
        &"clang-14",
        &"-x",
        &"c++",
        &"-std=c++17",
        &"-O1",
        &"-c",
        &source,
        &"-o",
        &object,
    ]));
    Ok(subject)
}

/// A large Rust program of several threads.
pub(super) fn rustc(fixtures: &Path) -> Result<Subject> {
    let mut subject = Subject::new()?;
    let sysroot = process::capture(Command::new("rustc").args(["--print", "sysroot"]))?;
    // Not the one in PATH, which may only choose a toolchain and execute its compiler.
    let compiler = PathBuf::from(sysroot.trim()).join("bin/rustc");
    let (source, output) = (fixtures.join("threads.rs"), subject.path().to_owned());
    subject.trace(words(&[
        &compiler,
        &"--edition",
        &"2024",
        &"--emit=metadata",
        &"--out-dir",
        &output,
        &source,
    ]));
    Ok(subject)
}

#[cfg(test)]
mod tests {
    use super::{COMMITS, commits};

    #[test]
    fn the_history_states_its_lengths_truly() {
        let text = commits();
        assert_eq!(text.matches("commit refs/heads/main\n").count(), COMMITS);
        let data = text.split("inline text\ndata ").nth(1).unwrap();
        let (length, rest) = data.split_once('\n').unwrap();
        assert!(rest[length.parse::<usize>().unwrap()..].starts_with("\nM 100644 inline dir0/copy0\n"));
    }
}
