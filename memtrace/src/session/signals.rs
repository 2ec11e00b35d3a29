//! The signals that end a session cleanly, and the one that marks a moment in it.
//!
//! SIGHUP is none of them if it was ignored when memtrace started (`nohup`): it stays ignored. The others end a session all the same:
//! a shell that is not interactive ignores SIGINT for what it starts in the background, and `kill -INT` is meant.
//!
//! They are blocked until something waits for them: one that ended the process while the kernel attaches probes for it
//! could leave a breakpoint in a target.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::Command,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use nix::sys::signal::{SigHandler, SigSet, Signal};
use tokio::signal::unix::{self, SignalKind, signal};

/// Their numbers.
fn ending() -> impl Iterator<Item = Signal> {
    [Signal::SIGINT, Signal::SIGTERM].into_iter().chain((!ignores_hangup()).then_some(Signal::SIGHUP))
}

/// Whether SIGHUP is ignored. It is if it was at start, since it never gets a handler then.
fn ignores_hangup() -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: the call writes the action that is in force; without a new one, it changes nothing. All zeroes are an action too.
    let action = unsafe {
        libc::sigaction(libc::SIGHUP, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Its number.
const MARKING: Signal = Signal::SIGUSR1;

/// Marks that wait to be taken; of more, the last are kept.
const MARKS: usize = 32;

/// When signals came that mark a moment (`CLOCK_MONOTONIC`, ns), and how many came. The loop may be busy with a report for a
/// while, so their time is noted by the handler.
static TIMES: [AtomicU64; MARKS] = [const { AtomicU64::new(0) }; MARKS];
static CAME: AtomicUsize = AtomicUsize::new(0);

fn set() -> SigSet {
    ending().collect()
}

/// Blocks them on this thread and on those it starts; commands that it starts receive them.
pub fn hold() {
    if let Err(error) = set().thread_block() {
        tracing::debug!("signals are not blocked: {error}");
    }
}

/// Blocks the one that marks until a session waits for it: by default it ends a process.
pub fn hold_marking() {
    let mut marking = SigSet::empty();
    marking.add(MARKING);
    if let Err(error) = marking.thread_block() {
        tracing::debug!("{MARKING} is not blocked: {error}");
    }
}

/// Lets a command that is about to be started receive them: it would inherit that they are blocked.
pub fn unheld(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only a system call is made.
    unsafe { command.pre_exec(|| Ok(SigSet::empty().thread_set_mask()?)) }
}

/// Keeps this process from being stopped by a signal that can be ignored: a screen would leave its terminal as it is, and probes
/// would stay in place.
pub(super) fn ignore_stopping() {
    // SAFETY: it is ignored, no handler.
    if let Err(error) = unsafe { nix::sys::signal::signal(Signal::SIGTSTP, SigHandler::SigIgn) } {
        tracing::debug!("SIGTSTP is not ignored: {error}");
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
    ending().any(|signal| pending.contains(signal))
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

/// Lets them end the process again, as they do by default: once a session has ended that waited for them. One that came since
/// they were blocked ends it now.
pub fn release() {
    for signal in ending() {
        // SAFETY: no handler is installed.
        if let Err(error) = unsafe { nix::sys::signal::signal(signal, SigHandler::SigDfl) } {
            tracing::debug!("{signal} keeps its handler: {error}");
        }
    }
    if let Err(error) = set().thread_unblock() {
        tracing::debug!("signals stay blocked: {error}");
    }
}

/// Waits for them.
pub(super) struct Signals {
    ending: [unix::Signal; 2],
    /// `None`: it is ignored.
    hangup: Option<unix::Signal>,
    marking: unix::Signal,
    /// How many marks were taken.
    taken: usize,
}

impl Signals {
    /// Handles them from here on, including pending ones.
    pub(super) fn new() -> anyhow::Result<Self> {
        let on = |kind| signal(kind).context("cannot handle signals");
        let taken = CAME.load(Ordering::Acquire);
        note_marks().context("cannot handle signals")?;
        let signals = Self {
            ending: [on(SignalKind::interrupt())?, on(SignalKind::terminate())?],
            hangup: (!ignores_hangup()).then(|| on(SignalKind::hangup())).transpose()?,
            marking: on(SignalKind::from_raw(MARKING as i32))?,
            taken,
        };
        let mut all = set();
        all.add(MARKING);
        all.thread_unblock().context("cannot unblock signals")?;
        Ok(signals)
    }

    /// The next one.
    pub(super) async fn received(&mut self) -> Received {
        loop {
            if let Some(time) = self.next_mark() {
                return Received::Mark(Duration::from_nanos(monotonic().saturating_sub(time)));
            }
            let [interrupt, terminate] = &mut self.ending;
            let hangup = &mut self.hangup;
            tokio::select! {
                _ = interrupt.recv() => return Received::End,
                _ = terminate.recv() => return Received::Terminate,
                Some(()) = next_of(hangup) => return Received::End,
                _ = self.marking.recv() => {}
            }
        }
    }

    /// The time of the first mark that was not taken yet. Several signals may have woken the loop once.
    fn next_mark(&mut self) -> Option<u64> {
        let came = CAME.load(Ordering::Acquire);
        let number = self.taken.max(came.saturating_sub(MARKS));
        let time = TIMES.get(number % MARKS).filter(|_| number < came)?;
        self.taken = number + 1;
        Some(time.load(Ordering::Relaxed))
    }
}

/// Waits for a signal; forever, if there is none.
async fn next_of(signal: &mut Option<unix::Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => std::future::pending().await,
    }
}

/// What came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// The session is to end; a command may have got the signal too.
    End,
    /// The session is to end by SIGTERM, which no terminal sends. Who sends it may mean memtrace alone, or all of its group (`timeout`)
    /// or cgroup (systemd): then a command to which it is passed on gets it twice.
    Terminate,
    /// This moment is to be marked: so long ago.
    Mark(Duration),
}

/// Has a handler note when signals come that mark a moment, before anything that waits for them is woken.
fn note_marks() -> io::Result<()> {
    // Only one thread handles signals: the others have inherited that they are blocked.
    let note = || {
        let number = CAME.load(Ordering::Relaxed);
        if let Some(time) = TIMES.get(number % MARKS) {
            time.store(monotonic(), Ordering::Relaxed);
        }
        CAME.store(number.wrapping_add(1), Ordering::Release);
    };
    static ONCE: std::sync::Once = std::sync::Once::new();
    let mut result = Ok(());
    ONCE.call_once(|| {
        // SAFETY: the handler only reads the clock and writes atomic words, which is allowed in a signal handler.
        result = unsafe { signal_hook_registry::register(MARKING as i32, note) }.map(|_| ());
    });
    result
}

/// The clock of marks.
fn monotonic() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call writes a time; it is allowed in a signal handler.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    (time.tv_sec as u64).saturating_mul(1_000_000_000).saturating_add(time.tv_nsec as u64)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use nix::sys::signal::raise;

    use super::{MARKING, Received, Signals};

    #[test]
    fn marks_have_the_time_of_their_signal_even_if_the_loop_is_busy() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut signals = Signals::new().unwrap();
            let begun = Instant::now();
            raise(MARKING).unwrap();
            std::thread::sleep(Duration::from_millis(30));
            let between = begun.elapsed();
            raise(MARKING).unwrap();
            let (Received::Mark(first), Received::Mark(second)) =
                (signals.received().await, signals.received().await)
            else {
                panic!("not two marks")
            };
            assert!(first >= Duration::from_millis(30), "{first:?}");
            assert!(
                first <= begun.elapsed() && first - second >= between - Duration::from_millis(1),
                "{first:?} {second:?}"
            );
        });
    }
}
