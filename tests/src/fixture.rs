//! The handshake between a fixture program and its test: lines through pipes. Nothing here allocates in the
//! fixture, so that it does not show up in what is counted.

use std::{ffi::OsStr, process::Command};

use crate::{Running, fixture_path};

/// In the fixture: writes a line to standard output.
pub fn say(line: &str) {
    for part in [line.as_bytes(), b"\n"] {
        // SAFETY: `part` is valid for its length.
        unsafe { libc::write(1, part.as_ptr().cast(), part.len()) };
    }
}

/// In the fixture: waits for a line on standard input, or its end.
pub fn wait() {
    let mut byte = 0u8;
    // SAFETY: one byte is read into one byte.
    while unsafe { libc::read(0, (&raw mut byte).cast(), 1) } == 1 && byte != b'\n' {}
}

/// In the fixture: says that it is ready and waits to be let go, works, says that it is done and waits again.
pub fn perform(work: impl FnOnce()) {
    say("ready");
    wait();
    work();
    say("done");
    wait();
}

/// In the test: starts a fixture program of this package and waits until it is ready.
///
/// # Panics
/// If it does not get there.
#[must_use]
pub fn start(name: &str, arguments: &[&str]) -> Running {
    start_path(fixture_path(name), arguments)
}

/// In the test: starts a fixture program somewhere else.
///
/// # Panics
/// If it does not get ready.
#[must_use]
pub fn start_path(path: impl AsRef<OsStr>, arguments: &[&str]) -> Running {
    let mut running = Running::spawn(Command::new(path).args(arguments));
    let _: String = running.line_with("ready");
    running
}

/// In the test: lets a fixture work and waits until it is done. Returns its words after "done".
///
/// # Panics
/// If it is not done in time.
pub fn work(running: &mut Running) -> String {
    running.write_line("go");
    let line = running.line_with("done");
    line.trim_start_matches("done").trim().to_owned()
}
