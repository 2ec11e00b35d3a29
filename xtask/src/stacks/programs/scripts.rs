//! Programs that run a script of ours, or are one.

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::stacks::subject::{Subject, Trace, finish};

/// After this time little is compiled any more.
const WARM_UP: Duration = Duration::from_secs(4);

/// The distribution's Python. Its own allocator would keep small blocks from malloc.
pub(super) fn python(fixtures: &Path) -> Result<Subject> {
    run(Command::new("/usr/bin/python3").arg(fixtures.join("load.py")).env("PYTHONMALLOC", "malloc"))
}

/// It is not traced while its compiler warms up: to leave a function that it compiled on a wrong guess, it takes its own
/// stack apart, and allocates while nothing leads from there to the caller.
pub(super) fn node(fixtures: &Path) -> Result<Subject> {
    let subject = run(Command::new("node").arg(fixtures.join("load.js")));
    thread::sleep(WARM_UP);
    subject
}

/// A program of several threads.
pub(super) fn rust(fixtures: &Path) -> Result<Subject> {
    let mut subject = Subject::new()?;
    let program = subject.file("threads");
    finish(
        Command::new("rustc")
            .args(["--edition", "2024", "-O", "-o"])
            .arg(&program)
            .arg(fixtures.join("threads.rs")),
    )?;
    let pid = subject.start(&mut Command::new(program))?;
    subject.trace(Trace::Attach(pid));
    Ok(subject)
}

fn run(command: &mut Command) -> Result<Subject> {
    let mut subject = Subject::new()?;
    let pid = subject.start(command)?;
    subject.trace(Trace::Attach(pid));
    Ok(subject)
}
