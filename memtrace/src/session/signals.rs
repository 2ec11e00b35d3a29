//! The signals that end a session in good order.
//!
//! Until something waits for them they are held back: one that ended the process while the kernel attaches probes for it
//! could leave a breakpoint in a target.

use anyhow::Context as _;
use nix::sys::signal::{SigSet, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

/// Their numbers.
const ENDING: [Signal; 3] = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP];

fn set() -> SigSet {
    ENDING.into_iter().collect()
}

/// Holds them back on this thread, and on those it starts; not from commands.
pub fn hold() {
    if let Err(error) = set().thread_block() {
        tracing::debug!("signals are not held back: {error}");
    }
}

/// Whether one has come that is held back.
#[must_use]
pub fn interrupted() -> bool {
    let mut pending = *SigSet::empty().as_ref();
    // SAFETY: the call writes a set of signals over another.
    let pending = unsafe {
        libc::sigpending(&raw mut pending);
        SigSet::from_sigset_t_unchecked(pending)
    };
    ENDING.into_iter().any(|signal| pending.contains(signal))
}

/// Waits for them.
pub(super) struct Signals([unix::Signal; 3]);

impl Signals {
    /// From here on they are handled, those that were held back too.
    pub(super) fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        let signals =
            Self([on(SignalKind::interrupt())?, on(SignalKind::terminate())?, on(SignalKind::hangup())?]);
        set().thread_unblock().context("cannot let signals through")?;
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
