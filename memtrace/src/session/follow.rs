//! The loop of a session: steps of its source, reports out, until something ends it.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior};

use super::{
    draft::Draft,
    output::Output,
    queue::Queue,
    signals::{Received, Signals},
    source::{Ending, Source, Step},
};
use crate::report::screen::Request;

/// A report due within this time before the end is the last one; a tenth of the interval, if that is less.
const CLOSE: Duration = Duration::from_millis(100);

/// How long a command that was interrupted is waited for, before the session ends without it.
const GRACE: Duration = Duration::from_secs(2);

/// The most batches of events that a report waits for: more may arrive meanwhile.
const PARTS: usize = 32;

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

/// A source, what is pending of its output, and where that goes.
struct Run<'a, S> {
    source: &'a mut S,
    queue: Queue,
    output: &'a mut Output,
    /// Trace lines on their way to the queue.
    drafts: Vec<Draft>,
}

/// Follows a source to its end and writes its reports.
///
/// # Errors
/// The output cannot be written ([`super::Closed`] when its reader has gone), or the source cannot be read.
pub async fn follow(
    source: &mut impl Source,
    schedule: Schedule,
    output: &mut Output,
) -> anyhow::Result<Ending> {
    let ending = to_its_end(source, schedule, output).await;
    // What was reported before an error is not lost with it.
    let finished = output.finish();
    let ending = ending?;
    finished?;
    Ok(ending)
}

async fn to_its_end(
    source: &mut impl Source,
    schedule: Schedule,
    output: &mut Output,
) -> anyhow::Result<Ending> {
    source.begin()?;
    let mut signals = Signals::new()?;
    output.begin()?;
    let mut run = Run { source, queue: Queue::default(), output, drafts: Vec::new() };
    let start = Instant::now();
    let mut ticks = tokio::time::interval_at(start + schedule.interval, schedule.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let end = start + schedule.duration.unwrap_or(Duration::from_secs(u32::MAX.into()));
    let close = CLOSE.min(schedule.interval / 10);
    let deadline = tokio::time::sleep_until(end);
    tokio::pin!(deadline);
    let mut interrupted = false;
    let grace = tokio::time::sleep_until(end);
    tokio::pin!(grace);
    let mut reports = 0;
    // Why the session ends, and whether anything may have happened since the last report.
    let (ending, is_open) = loop {
        let had_report = run.queue.has_report();
        tokio::select! {
            biased;
            received = signals.received() => {
                match received {
                    Received::Mark(ago) => {
                        run.source.mark(ago);
                        continue;
                    }
                    Received::Terminate => run.source.terminate(),
                    Received::End => {}
                }
                if interrupted || !run.source.outlasts() {
                    break (Ending::Interrupted, true);
                }
                // The command may have got the signal too. The next one ends the session.
                interrupted = true;
                grace.as_mut().reset(Instant::now() + GRACE);
            }
            () = &mut grace, if interrupted => {
                if !run.source.outlasts() || !run.source.is_ending() {
                    break (Ending::Interrupted, true);
                }
                grace.as_mut().reset(Instant::now() + GRACE);
            }
            request = run.output.request() => match request? {
                Request::Quit => break (Ending::Done, false),
                request => run.answer(request)?,
            },
            result = ticks.tick(), if !had_report => {
                let _: Instant = result;
                let begin = Instant::now();
                reports += 1;
                let done = schedule.count.is_some_and(|count| reports >= count) || Instant::now() + close >= end;
                run.catch_up()?;
                let ended = run.source.has_ended();
                run.report(done || ended)?;
                if schedule.outlive {
                    // Like bcc's memleak, which sleeps between two reports: what was allocated after one was written
                    // is old enough for the next.
                    ticks.reset();
                }
                // What else is due has at least as much time as reports, however long these take.
                if begin.elapsed() >= schedule.interval / 2 {
                    ticks.reset_after(begin.elapsed().max(schedule.interval));
                }
                if done {
                    break (Ending::Done, false);
                }
                if ended && schedule.count.is_none() {
                    break (Ending::Exited, false);
                }
            }
            () = &mut deadline => break (Ending::Done, true),
            () = run.queue.expired() => run.write()?,
            result = run.source.due(!run.queue.is_full()) => {
                result?;
                match run.step()? {
                    Step::Wait => {}
                    Step::Report => {
                        run.catch_up()?;
                        run.report(false)?;
                    }
                    Step::End(Ending::Exited) if schedule.outlive => {}
                    Step::End(ending) => break (ending, true),
                }
            }
        }
        if schedule.outlive && had_report && !run.queue.has_report() {
            ticks.reset();
        }
        // Lets signals through even if there is always more to do: reports can take longer than their interval.
        tokio::task::yield_now().await;
    };
    if is_open {
        run.catch_up()?;
        if schedule.last_report {
            run.report(true)?;
        }
    }
    if run.output.is_screen() {
        run.queue.flush(run.source.names(), run.output)?;
    }
    run.settle(&mut signals, ending).await?;
    Ok(ending)
}

impl<S: Source> Run<'_, S> {
    /// Does part of what is due.
    fn step(&mut self) -> anyhow::Result<Step> {
        let step = self.source.step(&mut self.drafts)?;
        self.enqueue()?;
        self.write()?;
        Ok(step)
    }

    /// Moves trace lines to the queue.
    fn enqueue(&mut self) -> anyhow::Result<()> {
        let has_some = !self.drafts.is_empty();
        for draft in self.drafts.drain(..) {
            self.queue.push(draft, self.source.names(), self.output)?;
        }
        if has_some { self.output.flush() } else { Ok(()) }
    }

    /// Processes what has happened so far. If too much waits for names, it is written without them, so that nothing is
    /// left behind.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        for _ in 0..PARTS {
            let is_all = self.source.take(&mut self.drafts)?;
            self.enqueue()?;
            if self.queue.is_full() {
                self.queue.flush(self.source.names(), self.output)?;
            }
            if is_all {
                break;
            }
        }
        Ok(())
    }

    fn report(&mut self, last: bool) -> anyhow::Result<()> {
        self.output.note_end(self.source.has_ended());
        let draft = self.source.report(last, self.output.wanted())?;
        self.queue.push(draft, self.source.names(), self.output)
    }

    /// Does what a screen asks for.
    fn answer(&mut self, request: Request) -> anyhow::Result<()> {
        let is_report_wanted = match request {
            Request::Report => true,
            Request::Mark => {
                self.source.mark(Duration::ZERO);
                true
            }
            Request::Scan => {
                self.source.scan();
                false
            }
            Request::Save(path) => self.output.save(path, self.source.names().dictionary()),
            Request::Redraw | Request::Quit => false,
        };
        if is_report_wanted {
            self.catch_up()?;
            return self.report(false);
        }
        self.output.redraw(self.source.names())
    }

    /// Writes what has its names or has waited long enough.
    fn write(&mut self) -> anyhow::Result<()> {
        self.queue.write(self.source.names(), self.output)
    }

    /// Writes what still waits for names, and meanwhile continues with what is due (keeping the budget). The first
    /// signal ends the session or arrives after its end; only the next one ends the wait.
    async fn settle(&mut self, signals: &mut Signals, ending: Ending) -> anyhow::Result<()> {
        let mut interrupted = ending == Ending::Interrupted;
        while !self.queue.is_empty() {
            tokio::select! {
                biased;
                received = signals.received() => {
                    match received {
                        Received::Mark(_) => continue,
                        Received::Terminate => self.source.terminate(),
                        Received::End => {}
                    }
                    if interrupted {
                        self.queue.flush(self.source.names(), self.output)?;
                    }
                    interrupted = true;
                }
                () = self.queue.expired() => self.write()?,
                result = self.source.due(false) => {
                    result?;
                    let step = self.source.step(&mut self.drafts)?;
                    self.drafts.drain(..).for_each(|draft| draft.release(self.source.names()));
                    self.write()?;
                    if step == Step::End(Ending::OverBudget) {
                        self.queue.flush(self.source.names(), self.output)?;
                    }
                    tokio::task::yield_now().await;
                }
            }
        }
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Schedule, follow};
    use crate::{
        profile::{Amount, Filter, Kernel, Losses, Marks, Profile, Selection, Subject},
        report::Json,
        session::{Draft, Ending, Names, Output, Source, Step, Wanted},
    };

    /// A source whose reports take longer than their interval, and that ends after some steps.
    struct Slow {
        names: Names,
        reports: u32,
        steps: u32,
    }

    impl Source for Slow {
        fn begin(&mut self) -> anyhow::Result<()> {
            Ok(())
        }

        async fn due(&mut self, _: bool) -> anyhow::Result<()> {
            if self.reports == 0 {
                std::future::pending().await
            }
            Ok(())
        }

        fn step(&mut self, _: &mut Vec<Draft>) -> anyhow::Result<Step> {
            self.steps += 1;
            Ok(if self.steps < 5 { Step::Wait } else { Step::End(Ending::Exited) })
        }

        fn take(&mut self, _: &mut Vec<Draft>) -> anyhow::Result<bool> {
            Ok(true)
        }

        fn has_ended(&self) -> bool {
            false
        }

        fn report(&mut self, last: bool, wanted: Wanted<'_>) -> anyhow::Result<Draft> {
            std::thread::sleep(Duration::from_millis(3));
            self.reports += 1;
            let profile = Profile {
                time: jiff::Timestamp::UNIX_EPOCH,
                elapsed: Duration::ZERO,
                last,
                subject: Subject::Kernel(Kernel::default()),
                filter: Filter::default(),
                outstanding: Amount::default(),
                bytes_per_second: 0.0,
                unknown_frees: 0,
                rows: Vec::new(),
                losses: Losses::default(),
                remarks: Vec::new(),
                marks: Marks::default(),
            };
            Ok(Draft::report(profile, &mut self.names, wanted))
        }

        fn names(&mut self) -> &mut Names {
            &mut self.names
        }
    }

    #[test]
    fn slow_reports_do_not_starve_what_is_due() {
        let schedule = Schedule {
            interval: Duration::from_millis(1),
            count: Some(200),
            duration: None,
            outlive: false,
            last_report: false,
        };
        let mut source = Slow { names: Names::new(None), reports: 0, steps: 0 };
        let mut output = Output::new(Box::new(Json), Box::new(std::io::sink()), Selection::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let ending = runtime.block_on(follow(&mut source, schedule, &mut output));
        assert_eq!((ending.unwrap(), source.steps), (Ending::Exited, 5));
    }
}
