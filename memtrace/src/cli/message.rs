//! What is said on standard error.

use std::io::{self, Write as _};

/// Writes a line to standard error. That it cannot be read is no reason to stop.
pub(super) fn message(text: &str) {
    let _ = writeln!(io::stderr(), "memtrace: {text}");
}

/// Ends the program as clap does for a wrong option.
pub(super) fn usage(text: &str) -> ! {
    message(text);
    std::process::exit(2)
}
