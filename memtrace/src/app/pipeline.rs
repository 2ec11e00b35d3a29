//! The loop of a session: events in, reports out, until something ends it.

use std::{os::fd::AsRawFd, time::Duration};

use anyhow::Context as _;
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, MissedTickBehavior},
};

use super::{control::Next, followed::Followed, output::Output, queue::Queue, signals::Signals, watch::TURN};
use crate::{
    bpf::{Events, KernelLog},
    target::Exit,
};

/// Events taken between two looks at clock and signals, and the time that may take: after an `execve` probes are attached.
const BURST: usize = 4096;
const BURST_TIME: Duration = Duration::from_millis(100);

/// A report that is due so shortly before the end is the last one; an interval's tenth, if that is less.
const CLOSE: Duration = Duration::from_millis(100);

/// When to report, and when to stop.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Time between two reports.
    pub interval: Duration,
    /// Reports before the end.
    pub count: Option<u64>,
    /// Time before the end.
    pub duration: Option<Duration>,
    /// Whether reports go on after the targets have ended, as bcc's memleak does: until `count` is reached,
    /// or for one more report.
    pub outlive: bool,
    /// Whether a last report is added at the end.
    pub last_report: bool,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As many reports, or as much time, as asked for.
    Done,
    /// Every target has exited.
    Exited,
    /// By a signal.
    Interrupted,
    /// Tracing cost more than its budget allows, whatever was done about it.
    TooDear,
}

/// Follows a session to its end and writes its reports.
///
/// # Errors
/// The output cannot be written ([`super::Closed`] when its reader has gone), or the table of blocks cannot
/// be read.
pub async fn follow(
    session: &mut impl Followed,
    schedule: Schedule,
    output: &mut Output,
) -> anyhow::Result<Ending> {
    session.begin()?;
    let (events, log) = session.streams()?;
    let mut events = Watched::new(events)?;
    let mut log = log.map(Watched::new).transpose()?;
    let mut exits = session.exits()?.into_iter().map(Watched::new).collect::<anyhow::Result<Vec<_>>>()?;
    let endless = exits.is_empty();
    let mut signals = Signals::new()?;
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at(start + schedule.interval, schedule.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut turns = tokio::time::interval_at(start + TURN, TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = start + schedule.duration.unwrap_or(Duration::from_secs(u32::MAX.into()));
    let close = CLOSE.min(schedule.interval / 10);
    let deadline = tokio::time::sleep_until(end);
    tokio::pin!(deadline);
    let look = tokio::time::sleep(Duration::ZERO);
    tokio::pin!(look);
    let mut queue = Queue::default();
    let mut reports = 0;
    // Why it ends, and whether something may have happened since the last report.
    let (ending, is_open) = loop {
        tokio::select! {
            biased;
            () = signals.received() => break (Ending::Interrupted, true),
            result = ticks.tick(), if !queue.has_report() => {
                let _: Instant = result;
                drain(&mut events, session, &mut queue, output)?;
                reports += 1;
                let done = schedule.count.is_some_and(|count| reports >= count) || Instant::now() + close >= end;
                let ended = exits.is_empty() && !endless;
                queue.push(session.snapshot(done || ended)?, session, output)?;
                if schedule.outlive {
                    // As bcc's memleak, which sleeps between two reports: what came after one was written is old
                    // enough for the next.
                    ticks.reset();
                }
                if done {
                    break (Ending::Done, false);
                }
                if ended && schedule.count.is_none() {
                    break (Ending::Exited, false);
                }
            }
            () = &mut deadline => break (Ending::Done, true),
            () = &mut look, if session.is_controlled() => {
                match session.control() {
                    Next::Look(time) => look.as_mut().reset(Instant::now() + time),
                    Next::Report => {
                        drain(&mut events, session, &mut queue, output)?;
                        queue.push(session.snapshot(false)?, session, output)?;
                    }
                    Next::End => break (Ending::TooDear, true),
                }
            }
            result = turns.tick() => {
                let _: Instant = result;
                session.watch();
            }
            () = any_exit(&mut exits), if !exits.is_empty() => {
                if exits.is_empty() && !schedule.outlive {
                    break (Ending::Exited, true);
                }
            }
            () = queue.changed(session) => {
                let waited = queue.has_report();
                queue.write(session, output)?;
                if schedule.outlive && waited && !queue.has_report() {
                    ticks.reset();
                }
            }
            result = events.readable(), if !queue.is_full() => {
                result?;
                if !take_burst(&mut events, session, &mut queue, output)? {
                    // More is waiting; clock and signals have their turn.
                    tokio::task::yield_now().await;
                }
            }
            result = readable(&mut log), if log.is_some() => {
                result?;
                flush_log(&mut log);
            }
        }
    };
    if is_open {
        drain(&mut events, session, &mut queue, output)?;
        flush_log(&mut log);
        if schedule.last_report {
            queue.push(session.snapshot(true)?, session, output)?;
        }
    }
    settle(&mut queue, session, (&mut signals, ending), output).await?;
    Ok(ending)
}

/// Writes what still waits for names, and meanwhile keeps the budget. The first signal ends the session, or comes as that
/// has ended by itself: only the next one ends the waiting.
async fn settle(
    queue: &mut Queue,
    session: &mut impl Followed,
    (signals, ending): (&mut Signals, Ending),
    output: &mut Output,
) -> anyhow::Result<()> {
    let mut interrupted = ending == Ending::Interrupted;
    let mut look = Instant::now();
    while !queue.is_empty() {
        tokio::select! {
            biased;
            () = signals.received() => {
                if interrupted {
                    queue.flush(session, output)?;
                }
                interrupted = true;
            }
            () = tokio::time::sleep_until(look), if session.is_controlled() => {
                match session.control() {
                    Next::Look(time) => look = Instant::now() + time,
                    Next::Report => {}
                    Next::End => queue.flush(session, output)?,
                }
            }
            () = queue.changed(session) => queue.write(session, output)?,
        }
    }
    output.flush()
}

/// Takes what is in the ring buffer now. More may arrive while it does: bounded.
fn take_burst(
    events: &mut Watched<Events>,
    session: &mut impl Followed,
    queue: &mut Queue,
    output: &mut Output,
) -> anyhow::Result<bool> {
    let end = Instant::now() + BURST_TIME;
    for _ in 0..BURST {
        if Instant::now() >= end || queue.is_full() {
            return Ok(false);
        }
        let Some(event) = events.inner().next() else {
            events.exhausted();
            output.flush()?;
            return Ok(true);
        };
        if let Some(draft) = session.take(event) {
            queue.push(draft, session, output)?;
        }
    }
    Ok(false)
}

/// Takes everything that was in the ring buffer when it was called, and at most as much again. Nothing stays there because
/// too much waits for names: that is written without them.
fn drain(
    events: &mut Watched<Events>,
    session: &mut impl Followed,
    queue: &mut Queue,
    output: &mut Output,
) -> anyhow::Result<()> {
    for _ in 0..32 {
        if take_burst(events, session, queue, output)? {
            break;
        }
        if queue.is_full() {
            queue.flush(session, output)?;
        }
    }
    Ok(())
}

fn flush_log(log: &mut Option<Watched<KernelLog>>) {
    if let Some(log) = log {
        log.inner().flush();
        log.exhausted();
    }
}

async fn readable(log: &mut Option<Watched<KernelLog>>) -> anyhow::Result<()> {
    match log {
        Some(log) => log.readable().await,
        None => std::future::pending().await,
    }
}

/// Waits until a target has exited and takes it off the list.
async fn any_exit(exits: &mut Vec<Watched<Exit>>) {
    let index = std::future::poll_fn(|context| {
        exits
            .iter_mut()
            .position(|exit| exit.poll(context).is_ready())
            .map_or(std::task::Poll::Pending, std::task::Poll::Ready)
    })
    .await;
    exits.swap_remove(index);
}

/// Something with a file descriptor that is polled for reading.
struct Watched<T: AsRawFd> {
    fd: AsyncFd<T>,
    ready: bool,
}

impl<T: AsRawFd> Watched<T> {
    fn new(inner: T) -> anyhow::Result<Self> {
        // SAFETY: every `T` here (ring buffer, log, pidfd) owns its descriptor, which stays open and the same until
        // it is dropped with the `AsyncFd`.
        let fd = unsafe { AsyncFd::register_with_interest(inner, tokio::io::Interest::READABLE) }
            .map_err(|refused| refused.into_parts().1)
            .context("cannot watch a file descriptor")?;
        Ok(Self { fd, ready: false })
    }

    fn inner(&mut self) -> &mut T {
        self.fd.get_mut()
    }

    /// Waits for something to read. Stays ready until [`Watched::exhausted`].
    async fn readable(&mut self) -> anyhow::Result<()> {
        if !self.ready {
            self.fd.readable().await?.retain_ready();
            self.ready = true;
        }
        Ok(())
    }

    /// Everything was read: the next `readable` waits for news.
    fn exhausted(&mut self) {
        self.ready = false;
        let mut nothing = std::task::Context::from_waker(std::task::Waker::noop());
        if let std::task::Poll::Ready(Ok(mut guard)) = self.fd.poll_read_ready(&mut nothing) {
            guard.clear_ready();
        }
    }

    fn poll(&mut self, context: &mut std::task::Context<'_>) -> std::task::Poll<()> {
        self.fd.poll_read_ready(context).map(|_| ())
    }
}
