//! Traced processes as a [`Source`]: their events, their ends, and a clock for the budget and the watchdog.

use std::{pin::Pin, task::Poll, time::Duration};

use anyhow::Context as _;
use tokio::time::{Instant, Interval, MissedTickBehavior, Sleep};

use super::{leaks::News, session::Session, watch::TURN};
use crate::{
    bpf::{BpfLog, Events},
    profile::Profile,
    session::{Draft, Ending, Names, Source, Step, Wanted, Watched},
    target::{Exit, Process},
};

/// The most events processed in one step, and the most time for it: an `execve` attaches probes.
const BURST: usize = 4096;
const BURST_TIME: Duration = Duration::from_millis(100);

/// If a leak check is due, but cannot be made at the moment.
const LOOK: Duration = Duration::from_millis(100);

/// What a session of processes waits for.
pub(super) struct Streams {
    events: Watched<Events>,
    log: Option<Watched<BpfLog>>,
    exits: Vec<Watched<Exit>>,
    /// When to check the budget.
    look: Pin<Box<Sleep>>,
    turns: Interval,
    /// When to look whether a leak check is due.
    leaks: Pin<Box<Sleep>>,
    /// When to look for early signs.
    signs: Pin<Box<Sleep>>,
    due: Option<Due>,
}

/// What is due.
enum Due {
    Look,
    Signs,
    Turn,
    Exit,
    Names,
    Events,
    Log,
    Leaks,
    Checked(News),
}

impl Streams {
    /// Takes events, up to a limit. Returns whether those were all.
    fn take(&mut self, mut take: impl FnMut(crate::bpf::BpfEvent)) -> bool {
        let end = Instant::now() + BURST_TIME;
        for _ in 0..BURST {
            if Instant::now() >= end {
                return false;
            }
            let Some(event) = self.events.inner().next() else {
                self.events.exhausted();
                return true;
            };
            take(event);
        }
        false
    }

    /// Waits for the end of a process too.
    pub(super) fn watch_exit(&mut self, exit: Watched<Exit>) {
        self.exits.push(exit);
    }

    fn flush_log(&mut self) {
        if let Some(log) = &mut self.log {
            log.inner().flush();
            log.exhausted();
        }
    }
}

impl Source for Session {
    fn begin(&mut self) -> anyhow::Result<()> {
        Session::begin(self);
        self.watch_hold()?;
        let exits = self.processes().map(|process| process.exit().context("cannot watch the target"));
        let exits = exits.map(|exit| Watched::new(exit?)).collect::<anyhow::Result<Vec<_>>>()?;
        let now = Instant::now();
        let mut turns = tokio::time::interval_at(now + TURN, TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Skip);
        self.streams = Some(Streams {
            events: Watched::new(self.tracer.take_events()?)?,
            log: self.tracer.take_log().map(Watched::new).transpose()?,
            exits,
            look: Box::pin(tokio::time::sleep(Duration::ZERO)),
            turns,
            leaks: Box::pin(tokio::time::sleep(Duration::ZERO)),
            signs: Box::pin(tokio::time::sleep(Duration::ZERO)),
            due: None,
        });
        Ok(())
    }

    async fn due(&mut self, room: bool) -> anyhow::Result<()> {
        let (is_controlled, is_early) = (self.is_controlled(), self.options.early);
        let Self { streams: Some(streams), names, leaks: checks, .. } = self else {
            return std::future::pending().await;
        };
        let Streams { events, log, exits, look, turns, leaks, signs, due } = streams;
        let is_checking = checks.due().is_some();
        *due = Some(tokio::select! {
            biased;
            () = look, if is_controlled => Due::Look,
            () = signs, if is_early => Due::Signs,
            _ = turns.tick() => Due::Turn,
            () = any_exit(exits), if !exits.is_empty() => Due::Exit,
            () = names.answered() => Due::Names,
            Some(news) = checks.news() => Due::Checked(news),
            () = leaks, if is_checking => Due::Leaks,
            result = events.readable(), if room => result.map(|()| Due::Events)?,
            result = readable(log), if log.is_some() => result.map(|()| Due::Log)?,
        });
        Ok(())
    }

    fn step(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<Step> {
        let Some(streams) = &mut self.streams else { return Ok(Step::Wait) };
        match streams.due.take() {
            Some(Due::Look) => {
                let (step, time) = self.control();
                if let Some(streams) = &mut self.streams {
                    streams.look.as_mut().reset(Instant::now() + time);
                }
                return Ok(step);
            }
            Some(Due::Signs) => {
                let (step, time) = self.look_for_signs();
                if let Some(streams) = &mut self.streams {
                    streams.signs.as_mut().reset(Instant::now() + time);
                }
                return Ok(step);
            }
            Some(Due::Turn) => {
                self.watch();
                self.weigh(false);
            }
            Some(Due::Exit) if streams.exits.is_empty() => {
                // It may have left children.
                while !self.take(drafts)? {}
                self.watch_living()?;
                let is_last = self.streams.as_ref().is_none_or(|streams| streams.exits.is_empty());
                return Ok(if is_last { Step::End(Ending::Exited) } else { Step::Wait });
            }
            Some(Due::Events) => {
                self.take(drafts)?;
            }
            Some(Due::Log) => streams.flush_log(),
            Some(Due::Leaks) => {
                self.look_for_leaks();
                self.schedule_leaks();
            }
            Some(Due::Checked(News::Answer(answer))) => {
                // Whether the OOM killer took memory away meanwhile.
                self.take(drafts)?;
                self.take_answer(*answer);
                self.schedule_leaks();
            }
            Some(Due::Checked(News::Held)) => {
                self.take(drafts)?;
                self.check_at_exit();
            }
            Some(Due::Exit | Due::Names) | None => {}
        }
        Ok(if self.black_box.wants_report() { Step::Report } else { Step::Wait })
    }

    fn take(&mut self, drafts: &mut Vec<Draft>) -> anyhow::Result<bool> {
        let Some(mut streams) = self.streams.take() else { return Ok(true) };
        let is_all = streams.take(|event| drafts.extend(self.take_event(event)));
        streams.flush_log();
        self.streams = Some(streams);
        let has_all = self.follow_pending(Some(Instant::now().into_std() + BURST_TIME));
        Ok(is_all && has_all)
    }

    fn terminate(&mut self) {
        if let Some(command) = &self.command {
            command.terminate();
        }
    }

    fn outlasts(&self) -> bool {
        self.leaks.has_hold()
    }

    fn is_ending(&self) -> bool {
        self.leaks.is_running()
    }

    fn has_ended(&self) -> bool {
        !self.targets.is_empty() && self.processes().all(Process::has_exited)
    }

    fn report(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Draft> {
        let profile: Profile = self.profile(last, wanted)?;
        Ok(Draft::report(profile, &mut self.names, wanted))
    }

    fn mark(&mut self, ago: Duration) {
        let now = self.tracer.elapsed();
        let at = now.saturating_sub(self.started).saturating_sub(ago);
        self.marked.add(at, self.control.seen(now).saturating_sub(ago));
    }

    fn scan(&mut self) {
        self.leaks.ask(self.tracer.elapsed());
        self.schedule_leaks();
    }

    fn names(&mut self) -> &mut Names {
        &mut self.names
    }
}

impl Session {
    /// If no process is waited for any more: waits for those that live all the same. A descriptor may be called readable too
    /// early.
    fn watch_living(&mut self) -> anyhow::Result<()> {
        let Some(streams) = self.streams.as_mut().filter(|streams| streams.exits.is_empty()) else {
            return Ok(());
        };
        for process in
            self.targets.iter().map(|target| &target.process).filter(|process| !process.has_exited())
        {
            tracing::debug!("process {} has not exited", process.pid);
            streams.exits.push(Watched::new(process.exit()?)?);
        }
        Ok(())
    }

    /// Sets when to look again whether a leak check is due.
    fn schedule_leaks(&mut self) {
        let (now, due) = (self.tracer.elapsed(), self.leaks.due());
        if let (Some(streams), Some(due)) = (&mut self.streams, due) {
            let time = due.saturating_sub(now).max(LOOK);
            streams.leaks.as_mut().reset(Instant::now() + time);
        }
    }
}

async fn readable(log: &mut Option<Watched<BpfLog>>) -> anyhow::Result<()> {
    match log {
        Some(log) => log.readable().await,
        None => std::future::pending().await,
    }
}

/// Waits until a target has exited and takes it off the list.
async fn any_exit(exits: &mut Vec<Watched<Exit>>) {
    let index = std::future::poll_fn(|context| {
        let exited = exits.iter_mut().position(|exit| exit.poll(context).is_ready());
        exited.map_or(Poll::Pending, Poll::Ready)
    })
    .await;
    exits.swap_remove(index);
}
