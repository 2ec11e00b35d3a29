//! What each stack held over the whole session, at few moments, and when it last allocated.

use std::time::Duration;

use rustc_hash::FxHashMap;

use crate::profile::Trend;

/// The most moments that are kept. Then every second one is dropped, and from there on they are twice as far apart.
const MOST: usize = 64;

/// The fewest moments that a trend is computed from.
const LEAST: usize = 8;

/// What bytes have multiplied by is looked at from this part of the time on, and how much that must be: vectors of C++ libraries and of
/// Rust grow by a factor of 1.5 or 2.
const MULTIPLIED_SINCE: f64 = 0.4;
const MULTIPLIED_BY: f32 = 1.4;

/// The time between two moments is at least this part of what it should be: a report may come right after a turn.
const EARLY: f64 = 0.6;

/// What one stack did.
#[derive(Clone, Debug, Default)]
struct Track {
    /// It held nothing before.
    first: Duration,
    /// When it last allocated.
    last: Duration,
    /// The longest time between two moments at which it had allocated, or from the start to the first of them.
    gap: Duration,
    allocated: u64,
    /// Outstanding bytes at each moment.
    bytes: Vec<f32>,
}

/// What all stacks did, by slot.
#[derive(Clone, Debug, Default)]
pub struct Tracks {
    start: Duration,
    times: Vec<f32>,
    /// Time between two moments that are kept.
    apart: Duration,
    last: Duration,
    tracks: FxHashMap<u32, Track>,
    /// Blocks known to be allocated minus those freed, of the whole process and whatever their age, at each moment.
    net: Vec<f32>,
    /// Blocks freed that were unknown.
    unknown: Vec<f32>,
}

/// When a stack allocated, as seen from a moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    /// It held nothing before, on the clock of what was recorded.
    pub first: Duration,
    /// For how long it may have allocated.
    pub watched: Duration,
    /// Since when it has not.
    pub silent: Duration,
    /// The longest such time before.
    pub gap: Duration,
}

/// How the bytes of a stack rose over its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ascent {
    /// Growth in the first third of its time, in bytes per second.
    pub first: f64,
    /// The same in the last third.
    pub last: f64,
    /// How often its bytes rose from one moment to the next.
    pub rises: u64,
    /// Whether they ever fell.
    pub fell: bool,
    /// Whether they never did, and are a multiple of what they were a while before the middle: a buffer that doubles whenever
    /// it is full does so ever more rarely, however steadily it is filled.
    pub multiplied: bool,
}

/// What a stack holds at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Its slot.
    pub slot: u32,
    /// Outstanding bytes.
    pub bytes: u64,
    /// Outstanding blocks.
    pub blocks: u64,
    /// Blocks allocated so far.
    pub allocated: u64,
}

impl Tracks {
    /// Tracing begins now; `turn` is the time between two moments.
    pub fn begin(&mut self, now: Duration, turn: Duration) {
        *self = Self { start: now, last: now, apart: turn, ..Self::default() };
    }

    /// Records what stacks hold now. `unknown`: frees of unknown blocks so far.
    pub fn record(&mut self, now: Duration, stacks: impl IntoIterator<Item = Held>, unknown: u64) {
        let is_moment = now.saturating_sub(self.last) >= self.apart.mul_f64(EARLY);
        let (moments, before, start) = (self.times.len(), self.last, self.start);
        let mut net = -(unknown as f64);
        for held in stacks {
            net += held.blocks as f64;
            let track = self.tracks.entry(held.slot).or_insert_with(|| Track {
                first: before,
                last: start,
                gap: Duration::ZERO,
                allocated: 0,
                bytes: vec![0.0; moments],
            });
            if held.allocated != track.allocated {
                track.allocated = held.allocated;
                track.gap = track.gap.max(now.saturating_sub(track.last));
                track.last = now;
            }
            if is_moment {
                track.bytes.push(held.bytes as f32);
            }
        }
        if !is_moment {
            return;
        }
        self.last = now;
        self.times.push(now.saturating_sub(start).as_secs_f32());
        self.net.push(net as f32);
        self.unknown.push(unknown as f32);
        for track in self.tracks.values_mut() {
            // One whose stack is gone.
            let last = track.bytes.last().copied().unwrap_or_default();
            track.bytes.resize(self.times.len(), last);
        }
        if self.times.len() >= MOST {
            self.thin();
        }
    }

    fn thin(&mut self) {
        self.apart *= 2;
        let tracks = self.tracks.values_mut().map(|track| &mut track.bytes);
        for values in tracks.chain([&mut self.times, &mut self.net, &mut self.unknown]) {
            let mut place = 0;
            values.retain(|_| {
                place += 1;
                place % 2 == 0
            });
        }
    }

    /// When a stack allocated until `end`. One that is not known yet may have done so since the start.
    #[must_use]
    pub fn times(&self, slot: u32, end: Duration) -> Times {
        let track = self.tracks.get(&slot);
        let (first, last) = track.map_or((self.start, end), |track| (track.first, track.last));
        Times {
            first,
            watched: end.saturating_sub(first),
            silent: end.saturating_sub(last),
            gap: track.map_or(Duration::ZERO, |track| track.gap),
        }
    }

    /// The moments that are kept, as time since the start.
    pub fn moments(&self) -> impl Iterator<Item = Duration> {
        self.times.iter().map(|&time| Duration::from_secs_f32(time))
    }

    /// Outstanding bytes of a stack at each moment: none before it was known.
    pub fn bytes(&self, slot: u32) -> Option<impl Iterator<Item = u64>> {
        Some(self.tracks.get(&slot)?.bytes.iter().map(|&bytes| bytes as u64))
    }

    /// Forgets the stacks for which `is_past`: their programs have ended.
    pub fn forget(&mut self, is_past: impl Fn(u32) -> bool) {
        self.tracks.retain(|slot, _| !is_past(*slot));
    }

    /// The moments of a stack until its process ended, or until now, and its bytes at each.
    fn lived(&self, slot: u32, end: Duration) -> Option<(&[f32], &[f32])> {
        let track = self.tracks.get(&slot)?;
        let since = |time: Duration| time.saturating_sub(self.start).as_secs_f32();
        let from = self.times.partition_point(|time| *time < since(track.first));
        let to = self.times.partition_point(|time| *time <= since(end));
        Some((self.times.get(from..to)?, track.bytes.get(from..to)?))
    }

    /// The growth of a stack until `end`.
    #[must_use]
    pub fn trend(&self, slot: u32, end: Duration) -> Option<Trend> {
        let (times, bytes) = self.lived(slot, end)?;
        trend(times, bytes)
    }

    /// How the bytes of a stack rose over its time until `end`.
    #[must_use]
    pub fn ascent(&self, slot: u32, end: Duration) -> Option<Ascent> {
        let (times, bytes) = self.lived(slot, end)?;
        let third = times.len() / 3;
        let slope = |from: usize, to: usize| {
            let seconds = f64::from(times.get(to)? - times.get(from)?);
            Some((f64::from(*bytes.get(to)?) - f64::from(*bytes.get(from)?)) / seconds)
        };
        let rises = bytes.windows(2).filter(|pair| matches!(pair, [a, b] if b > a)).count() as u64;
        let last = times.len().checked_sub(1)?;
        let before = *bytes.get((last as f64 * MULTIPLIED_SINCE) as usize)?;
        let fell = !bytes.is_sorted();
        let multiplied =
            !fell && before > 0.0 && bytes.last().is_some_and(|&now| now >= MULTIPLIED_BY * before);
        Some(Ascent { first: slope(0, third)?, last: slope(last - third, last)?, rises, fell, multiplied })
    }

    /// Growth of the number of blocks of the process, those included that were allocated before tracing began, and frees of
    /// such, both per second; the former with limits.
    #[must_use]
    pub fn balance(&self) -> Option<(Trend, f64)> {
        Some((trend(&self.times, &self.net)?, trend(&self.times, &self.unknown)?.bytes_per_second))
    }
}

/// The median of the slopes between moments that are a quarter of the time apart: Theil's incomplete method (A rank-invariant
/// method of linear and polynomial regression analysis, 1950), which takes as many pairs as moments instead of all. A single
/// step affects a third of them, so it does not count as growth. The limits are order statistics, as Sen (1968) has them;
/// the pairs overlap, so as few count as there would be without that.
fn trend(times: &[f32], values: &[f32]) -> Option<Trend> {
    let count = times.len().min(values.len());
    if count < LEAST {
        return None;
    }
    let lag = count / 4;
    let pairs = times.iter().zip(values).zip(times.iter().zip(values).skip(lag));
    let mut slopes: Vec<f64> = pairs
        .map(|((from, low), (to, high))| (f64::from(*high) - f64::from(*low)) / f64::from(to - from))
        .filter(|slope| slope.is_finite())
        .collect();
    slopes.sort_unstable_by(f64::total_cmp);
    let at = |place: f64| {
        let place = place.round().clamp(0.0, slopes.len().saturating_sub(1) as f64);
        slopes.get(place as usize).copied()
    };
    let middle = (slopes.len() as f64 - 1.0) / 2.0;
    let independent = slopes.len() as f64 / lag as f64 + 1.0;
    let width = 0.98 / independent.sqrt() * slopes.len() as f64;
    Some(Trend { bytes_per_second: at(middle)?, low: at(middle - width)?, high: at(middle + width)? })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Held, MOST, Tracks};

    fn series(seconds: u64, bytes: impl Fn(u64) -> u64) -> Tracks {
        let mut series = Tracks::default();
        series.begin(Duration::ZERO, Duration::from_secs(1));
        for second in 1..=seconds {
            let held = Held { slot: 1, bytes: bytes(second), blocks: second, allocated: second / 10 };
            series.record(Duration::from_secs(second), [held], 3 * second);
        }
        series
    }

    fn slope(series: &Tracks) -> f64 {
        series.trend(1, Duration::MAX).unwrap().bytes_per_second
    }

    #[test]
    fn a_trend_is_that_of_the_whole_session_whatever_its_length() {
        for seconds in [8, 20, 63, 64, 65, 200, 5000] {
            let series = series(seconds, |second| 1000 + 50 * second);
            let slope = slope(&series);
            assert!((slope - 50.0).abs() < 0.5, "{seconds}: {slope}");
            assert!(series.times.len() < MOST && series.times.len() == series.bytes(1).unwrap().count());
        }
    }

    #[test]
    fn what_stacks_held_is_kept_at_moments_that_are_about_as_far_apart() {
        for seconds in [3, 64, 500] {
            let series = series(seconds, |second| 1000 * second);
            let times: Vec<u64> = series.moments().map(|time| time.as_secs()).collect();
            assert!(times.len() < MOST && times.last() > Some(&(seconds * 9 / 10)), "{times:?}");
            let apart = || times.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(apart().max().unwrap() < 2 * apart().min().unwrap(), "{times:?}");
            let bytes: Vec<u64> = series.bytes(1).unwrap().collect();
            assert_eq!(bytes, times.iter().map(|time| 1000 * time).collect::<Vec<_>>());
        }
        assert!(series(3, |_| 1).bytes(2).is_none());
    }

    #[test]
    fn a_step_or_a_peak_is_no_growth() {
        let step = series(60, |second| if second < 30 { 100 } else { 1 << 30 });
        let peak = series(60, |second| if second % 20 == 7 { 1 << 30 } else { 1 });
        assert_eq!((slope(&step), slope(&peak)), (0.0, 0.0));
    }

    #[test]
    fn a_sawtooth_is_within_the_limits() {
        let series = series(60, |second| 1_000_000 * (second % 9));
        let trend = series.trend(1, Duration::MAX).unwrap();
        assert!(trend.low <= 0.0 && trend.high >= 0.0, "{trend:?}");
    }

    #[test]
    fn births_and_the_balance_of_the_process_are_noted() {
        let series = series(25, |_| 1);
        let (times, second) = (series.times(1, Duration::from_secs(27)), Duration::from_secs);
        assert_eq!((times.first, times.watched), (second(0), second(27)));
        assert_eq!((times.silent, times.gap), (second(7), second(10)));
        let unknown = series.times(2, second(5));
        assert_eq!(
            (unknown.watched, unknown.silent),
            (second(5), second(0)),
            "it may have allocated at any time"
        );
        let (net, unknown) = series.balance().unwrap();
        assert!((net.bytes_per_second + 2.0).abs() < 0.01 && (unknown - 3.0).abs() < 0.01);
    }
}
