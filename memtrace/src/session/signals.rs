//! The signals that end a session cleanly.
//!
//! They are blocked until something waits for them: one that ended the process while the kernel attaches probes for it
//! could leave a breakpoint in a target.

use std::{
    io,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

/// Their numbers.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn set() -> SigSet {
    ENDING.into_iter().collect()
}

/// Blocks them on this thread and on those it starts; commands that it starts receive them.
pub fn hold() {
    if let Err(error) = set().thread_block() {
        tracing::debug!("signals are not blocked: {error}");
    }
}

/// Whether one is pending.
#[must_use]
pub fn interrupted() -> bool {
    let mut pending = *SigSet::empty().as_ref();
    // SAFETY: the call overwrites a set of signals.
    let pending = unsafe {
        libc::sigpending(&raw mut pending);
        SigSet::from_sigset_t_unchecked(pending)
    };
    ENDING.into_iter().any(|signal| pending.contains(signal))
}

/// Waits for so long, and returns whether one came before; it is taken. They must be blocked.
#[must_use]
pub fn wait(time: Duration) -> bool {
    let begun = Instant::now();
    loop {
        let left = time.saturating_sub(begun.elapsed());
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(left.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(left.subsec_nanos() as i32),
        };
        // SAFETY: both are valid; without a place, nothing is written.
        let signal = unsafe { libc::sigtimedwait(set().as_ref(), std::ptr::null_mut(), &raw const timeout) };
        if signal > 0 {
            return true;
        }
        // Another signal was handled meanwhile.
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return false;
        }
    }
}

/// Lets them end the process again, as they do by default: once a session has ended that waited for them.
pub fn release() {
    for ending in ENDING {
        // SAFETY: no handler is installed.
        if let Err(error) = unsafe { nix::sys::signal::signal(ending, SigHandler::SigDfl) } {
            tracing::debug!("{ending} keeps its handler: {error}");
        }
    }
}

/// Waits for them.
pub(super) struct Signals([unix::Signal; 3]);

impl Signals {
    /// Handles them from here on, including pending ones.
    pub(super) fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        let signals =
            Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]);
        set().thread_unblock().context("cannot unblock signals")?;
        Ok(signals)
    }

    pub(super) async fn received(&mut self) {
        let Self([interrupt, terminate, hangup]) = self;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }
}
