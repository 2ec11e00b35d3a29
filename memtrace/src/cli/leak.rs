//! Options of leak checks.

use clap::ValueEnum;

use crate::sources::process::{LeakOptions, When};

/// When to check for leaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LeakCheck {
    /// While a scan takes at most 2 s of memtrace's CPU time.
    Auto,
    /// Never.
    Off,
    /// Whatever it costs.
    Always,
}

/// Options of leak checks.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct LeakArgs {
    /// Whether to scan the process's memory for blocks that nothing points to: they are lost for sure
    #[arg(long, value_enum, value_name = "WHEN", default_value_t = LeakCheck::Auto)]
    leak_check: LeakCheck,
    /// Stop the process for one scan instead of scanning it three times while it runs. System calls such as epoll_wait
    /// return EINTR then, which not every program expects
    #[arg(long)]
    stop: bool,
    /// Find pointers at odd addresses too, as in packed structures; a scan takes several times as long
    #[arg(long)]
    unaligned: bool,
}

impl LeakArgs {
    pub(super) fn options(&self) -> LeakOptions {
        let when = match self.leak_check {
            LeakCheck::Auto => When::Auto,
            LeakCheck::Off => When::Off,
            LeakCheck::Always => When::Always,
        };
        LeakOptions { when, stop: self.stop, unaligned: self.unaligned }
    }
}
