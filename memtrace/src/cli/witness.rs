//! Who allocates blocks of which sizes: what `memtrace scan --duration` traces before it scans.

use std::{io, time::Duration};

use super::{
    NAMES, attach, block_on,
    cost::DEFAULT_LIMIT,
    message::message,
    select::{SelectArgs, WhichArgs},
};
use crate::{
    bpf::Config,
    budget::Choice,
    profile::{Seen, Selection, SortBy},
    report::Witness,
    session::{Ending, Output, Schedule, follow, hold_signals, release_signals},
    sources::process::{Counting, LeakOptions, Options},
};

/// Stacks that are looked at: those that lose and those that grow come first.
const STACKS: usize = 300;

/// Traces processes for a time, or until a signal, and returns what was seen.
///
/// # Errors
/// As for a session.
pub(super) fn watch(which: &WhichArgs, time: Duration, leaks: LeakOptions) -> anyhow::Result<Seen> {
    let select = SelectArgs { which: which.clone(), follow: false };
    let processes = select.which.processes()?;
    let targets = u32::try_from(processes.len()).unwrap_or(u32::MAX);
    let options = Options {
        config: Config { targets, ..Config::default() },
        show_allocs: true,
        verdicts: true,
        counting: Counting { choice: Choice::Auto, limit: Some(DEFAULT_LIMIT) },
        leaks,
        names: Some(NAMES),
        ..Options::default()
    };
    let mut session = attach::open(processes, &select, options)?;
    session.choose();
    let witness = Witness::default();
    let selection = Selection { sort: SortBy::Verdict, top: STACKS, ..Selection::default() };
    let mut output = Output::new(Box::new(witness.clone()), Box::new(io::sink()), selection);
    let schedule =
        Schedule { interval: time, count: Some(1), duration: None, outlive: false, last_report: true };
    let ending = block_on(follow(&mut session, schedule, &mut output))?;
    // One that comes while probes are removed ends the process after that.
    hold_signals();
    drop(session);
    release_signals();
    if ending == Ending::Interrupted {
        message(
            "tracing was interrupted: scanning now, with what it has seen; the next signal ends the scan",
        );
    }
    Ok(witness.seen())
}
