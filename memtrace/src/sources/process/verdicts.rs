//! The evidence that verdicts rest on: what stacks held all the time, and their live blocks.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use memtrace_common::Part;
use rustc_hash::FxHashMap;

use super::{mappings::Mappings, session::Session, watch::TURN};
use crate::{
    aggregate::{Census, Growth, Held, Living, Survivors, Totals, Tracks},
    analysis::{Evidence, Timing, judge},
    budget::COUNTING,
    profile::{Leaked, Lifetimes, Trend, Uncounted, Verdict},
};

/// Reading all totals takes at most this part of the time.
const SHARE: u32 = 100;

/// Looking at all live blocks for a screen takes at most this part, unless what is shown would be older than that.
const SHARE_FOR_SCREEN: u32 = 400;
const OLDEST: Duration = Duration::from_secs(10);

/// Gaps that take less of the time than this do not matter.
const WATCHED: f64 = 0.95;

/// What stacks did since tracing began.
#[derive(Debug, Default)]
pub(super) struct Course {
    series: Tracks,
    pub(super) mappings: Mappings,
    /// When totals may be read again.
    next: Option<Instant>,
    /// When the programs of targets ended, by index and generation.
    ends: FxHashMap<u32, Duration>,
    /// What the last pass over the blocks for a screen has found, and until when that is used.
    blocks: Option<(Instant, Rc<Blocks>)>,
}

impl Course {
    pub(super) fn begin(&mut self, now: Duration) {
        self.series.begin(now, TURN);
        self.mappings.begin(now, TURN);
    }

    /// What stacks held.
    pub(super) fn series(&self) -> &Tracks {
        &self.series
    }

    /// Forgets the stacks for which `is_past`, and when programs ended that are not among the `known`.
    pub(super) fn forget(&mut self, is_past: impl Fn(u32) -> bool, known: &[u32]) {
        self.series.forget(&is_past);
        self.mappings.forget(is_past);
        self.ends.retain(|id, _| known.contains(id));
    }
}

/// What a pass over the live blocks has found.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    /// When that was.
    at: Duration,
    /// Those old enough, if an age was asked for or matters.
    pub(super) survivors: Option<FxHashMap<u32, Survivors>>,
    /// All of them, by age.
    pub(super) census: Option<Census>,
}

/// What verdicts on all rows of a report have in common.
pub(super) struct Circumstances<'a> {
    now: Duration,
    census: &'a Census,
    balance: Option<(Trend, f64)>,
    windows: Option<f64>,
    is_full: bool,
}

impl Session {
    /// Whether lifetimes are counted.
    fn has_lifetimes(&self) -> bool {
        self.options.config.without & Part::Lifetimes as u32 == 0
    }

    /// Notes what stacks hold at the moment. Called every [`TURN`].
    pub(super) fn note_course(&mut self) {
        if !self.options.verdicts || self.course.next.is_some_and(|next| Instant::now() < next) {
            return;
        }
        let begin = Instant::now();
        let now = self.tracer.elapsed();
        let totals = self.totals(now);
        self.record(now, &totals);
        self.course.next = Some(Instant::now() + SHARE * begin.elapsed());
    }

    /// Notes the totals of a moment.
    pub(super) fn record(&mut self, now: Duration, totals: &[Totals]) {
        if !self.options.verdicts {
            return;
        }
        for target in self.targets.iter().filter(|target| target.process.has_exited()) {
            self.course.ends.entry(target.id()).or_insert(now);
        }
        let held = totals.iter().map(|totals| Held {
            slot: totals.slot,
            bytes: totals.outstanding().bytes,
            blocks: totals.outstanding().blocks,
            allocated: totals.allocated.blocks,
        });
        self.course.series.record(now, held, self.tracer.work().unknown_frees);
        self.course.mappings.record(now, self.ranges.values());
    }

    /// When a program ended, by index and generation.
    pub(super) fn end_of(&self, id: u32) -> Option<Duration> {
        self.course.ends.get(&id).copied()
    }

    /// Looks at all live blocks, or for a screen at what the last pass has found if that took more than its share of the time. A
    /// stack that is newer than that makes a new pass necessary.
    ///
    /// # Errors
    /// The table of live blocks cannot be read.
    pub(super) fn look_often(&mut self, now: Duration, totals: &[Totals]) -> anyhow::Result<Rc<Blocks>> {
        if let Some((until, blocks)) = &self.course.blocks
            && Instant::now() < *until
            && blocks.census.as_ref().is_none_or(|census| {
                let is_known = |of: &Totals| census.of(of.slot).is_some() || !self.is_told_by_blocks(of, now);
                totals.iter().all(is_known)
            })
        {
            return Ok(Rc::clone(blocks));
        }
        let begin = Instant::now();
        let blocks = Rc::new(self.look_at_blocks(now, totals)?);
        // What has just begun is looked at again for the next picture.
        let pause = if self.marked.has_begun() {
            Duration::ZERO
        } else {
            (SHARE_FOR_SCREEN * begin.elapsed()).min(OLDEST)
        };
        self.course.blocks = Some((Instant::now() + pause, Rc::clone(&blocks)));
        Ok(blocks)
    }

    /// When these were looked at, since tracing began.
    pub(super) fn looked(&self, blocks: &Blocks) -> Duration {
        blocks.at.saturating_sub(self.started)
    }

    /// Other blocks are shown from now on.
    pub(super) fn forget_blocks(&mut self) {
        self.course.blocks = None;
    }

    /// Looks at all live blocks, once for everything that a report wants to know of them.
    ///
    /// # Errors
    /// The table of live blocks cannot be read.
    pub(super) fn look_at_blocks(&self, now: Duration, totals: &[Totals]) -> anyhow::Result<Blocks> {
        let mut blocks = Blocks {
            at: now,
            survivors: self.wants_survivors().then(FxHashMap::default),
            census: self.options.verdicts.then(|| self.census(now, totals)),
        };
        if blocks.survivors.is_none() && blocks.census.as_ref().is_none_or(Census::is_empty) {
            return Ok(blocks);
        }
        for target in &self.targets {
            let end = self.end_of(target.id()).unwrap_or(now);
            let (open, older) = (self.least_watched(target, now), self.least_age(target, now));
            self.tracer
                .live()
                .for_each(target.id(), |block| {
                    let age = now.saturating_sub(block.time);
                    if age < open || self.is_nested(block.slot) {
                        return;
                    }
                    let slot = self.stacks.reported_as(block.slot);
                    if let Some(census) = &mut blocks.census {
                        census.add(slot, block.time, end.saturating_sub(block.time), block.sample);
                    }
                    let is_shown = age >= older && self.is_in_span(block.time);
                    if let Some(survivors) = blocks.survivors.as_mut().filter(|_| is_shown) {
                        let stack = survivors.entry(slot).or_default();
                        stack.estimate.add(block.sample);
                        stack.oldest = stack.oldest.max(age);
                    }
                })
                .context("cannot read the table of live blocks")?;
        }
        if let Some(census) = &mut blocks.census {
            census.finish();
        }
        Ok(blocks)
    }

    fn census(&self, now: Duration, totals: &[Totals]) -> Census {
        let open = totals.iter().filter(|of| self.is_told_by_blocks(of, now));
        let stacks = open.map(|of| {
            let end = self.end_of(of.target).unwrap_or(now);
            (of.slot, self.course.series.times(of.slot, end).first..end)
        });
        Census::new(stacks, self.control.clock(now))
    }

    /// Whether only blocks tell what rows hold, as an age was asked for or matters.
    fn wants_survivors(&self) -> bool {
        self.options.older.is_some()
            || self.options.show_allocs
            || self.marked.is_limited()
            || self.control.sampled()
            || self.control.open_window().is_some()
    }

    /// Whether the verdict on a stack depends on its blocks. Most stacks of a program have not allocated since it started: times
    /// alone tell that, and their blocks are the most. In windows, growth is inferred from blocks; and where all are looked at anyway,
    /// a stack that none was looked at of shows that it is new.
    fn is_told_by_blocks(&self, of: &Totals, now: Duration) -> bool {
        let times = self.course.series.times(of.slot, self.end_of(of.target).unwrap_or(now));
        self.control.gaps > 0 || self.wants_survivors() || Timing::of(times) == Timing::Open
    }

    /// What verdicts need to know besides their rows; `None` if nobody wants any.
    pub(super) fn circumstances<'a>(
        &self,
        now: Duration,
        blocks: &'a Blocks,
        uncounted: Option<Uncounted>,
    ) -> Option<Circumstances<'a>> {
        let census = blocks.census.as_ref()?;
        let attached = self.control.attachment(self.started, now);
        let (counted, freed) = (attached.share, (attached.share / COUNTING).min(1.0));
        let has_gaps = attached.gaps > 0 && counted < WATCHED;
        // What was not sampled or not seen is unknown, too.
        let is_exact = attached.gaps == 0 && !self.control.sampled();
        Some(Circumstances {
            now,
            census,
            balance: self.course.series.balance().filter(|_| is_exact),
            windows: has_gaps.then_some(freed),
            is_full: matches!(uncounted, Some(Uncounted::TableFull(_))),
        })
    }

    /// The verdict on a row.
    pub(super) fn verdict(
        &self,
        stack: &Growth,
        leaked: Option<Leaked>,
        circumstances: &Circumstances<'_>,
    ) -> Verdict {
        let Circumstances { now, census, balance, windows, is_full } = *circumstances;
        let slot = stack.totals.slot;
        // Nothing changes after the end of a process.
        let ended = self.end_of(stack.totals.target);
        let end = ended.unwrap_or(now);
        let lifetimes: Option<Lifetimes> = self.has_lifetimes().then(|| self.tracer.lifetimes(slot));
        let none = Living::default();
        let series = &self.course.series;
        // Of samples, what they stand for is no number to count with.
        let freed = match &lifetimes {
            Some(lifetimes) => lifetimes.iter().map(|&blocks| u64::from(blocks)).sum(),
            None => stack.totals.freed.blocks,
        };
        let evidence = Evidence {
            now: now.saturating_sub(self.started),
            ended: ended.is_some(),
            times: series.times(slot, end),
            living: census.of(slot).unwrap_or(&none),
            freed,
            lifetimes: lifetimes.as_ref(),
            bytes: if self.marked.is_limited() { stack.totals.outstanding() } else { stack.outstanding }
                .bytes,
            trend: series.trend(slot, end),
            ascent: series.ascent(slot, end),
            balance,
            windows,
            is_full,
            lost: leaked.map(|leaked| (leaked.lost, leaked.checked)),
        };
        let (grounds, trend) = judge(&evidence);
        Verdict { grounds: if evidence.ended { grounds.at_end() } else { grounds }, trend, lifetimes }
    }
}
