//! What is said on standard error.

use std::io::{self, Write as _};

use crate::saved::Tail;

/// Writes a line to standard error. That it cannot be read is no reason to stop.
pub(super) fn message(text: &str) {
    let _ = writeln!(io::stderr(), "memtrace: {text}");
}

/// Writes a line to standard error that is meant to be copied.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Warns of what comes after the report that is shown, if it cannot be read.
pub(super) fn warn_of_tail(tail: Tail) {
    match tail {
        Tail::Nothing => {}
        Tail::Incomplete => message("the file ends within a report: this is the last complete one"),
        Tail::Damaged => message("the file is damaged after this report: later ones are lost"),
    }
}

/// Ends the program as clap does for a wrong option.
pub(super) fn usage(text: &str) -> ! {
    message(text);
    std::process::exit(2)
}
