//! Programs as lists of births and deaths, and what is said of them.

mod buffers;

use std::time::Duration;

use memtrace_common::{Sample, TIME_SHIFT, lifetime_class};

use super::{Evidence, judge};
use crate::{
    aggregate::{Ascent, Census, Held, Living, SeenClock, Times, Tracks},
    profile::{Amount, Grounds, Kind, Trend},
};

/// When a block is allocated and when it is freed, in seconds since tracing began.
type Life = (f64, f64);

const NEVER: f64 = f64::INFINITY;

/// SplitMix64 (Steele, Lea, Flood 2014), as a number from 0 to 1.
fn random(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    (mixed ^ mixed >> 31) as f64 / u64::MAX as f64
}

/// So many births a second at random times between two moments.
fn births(rate: f64, from: f64, to: f64, seed: u64) -> impl Iterator<Item = f64> {
    let (mut state, mut time) = (seed, from);
    std::iter::from_fn(move || {
        time -= random(&mut state).max(1e-12).ln() / rate;
        (time < to).then_some(time)
    })
}

/// The class of a lifetime in seconds.
fn class(life: f64) -> usize {
    lifetime_class(((life * 1e9) as u64 >> TIME_SHIFT) as u32)
}

/// How the blocks were seen.
#[derive(Clone, Copy)]
struct Seen {
    seconds: u64,
    lifetimes: bool,
    /// Frees per second of blocks from before.
    unknown: u64,
    lost: Option<(Amount, u64)>,
    is_full: bool,
}

const SEEN: Seen = Seen { seconds: 40, lifetimes: true, unknown: 0, lost: None, is_full: false };

fn judged(lives: &[Life], seen: Seen) -> (Grounds, Option<Trend>) {
    judged_of(lives, seen, |_| 100.0)
}

/// `size`: of a block, by when it is allocated.
fn judged_of(lives: &[Life], seen: Seen, size: fn(f64) -> f64) -> (Grounds, Option<Trend>) {
    let now = Duration::from_secs(seen.seconds);
    let of = |seconds: f64| Duration::from_secs_f64(seconds);
    let mut series = Tracks::default();
    series.begin(Duration::ZERO, Duration::from_secs(1));
    for second in 1..=seen.seconds {
        let time = second as f64;
        let allocated = lives.iter().filter(|(birth, _)| *birth < time).count() as u64;
        let held = lives.iter().filter(|(birth, death)| *birth < time && *death >= time);
        let blocks = held.clone().count() as u64;
        let bytes = held.map(|(birth, _)| size(*birth) as u64).sum();
        let held = Held { slot: 1, bytes, blocks, allocated };
        // A stack without allocations is not known.
        series.record(of(time), Some(held).filter(|_| allocated > 0), seen.unknown * second);
    }
    let times = series.times(1, now);
    let mut census = Census::new([(1, times.first..now)], SeenClock::default());
    let mut lifetimes = [0; 16];
    let mut bytes = 0;
    for &(birth, death) in lives.iter().filter(|(birth, _)| *birth < seen.seconds as f64) {
        if death < seen.seconds as f64 {
            lifetimes[class(death - birth)] += 1;
        } else {
            let size = size(birth) as u64;
            census.add(1, of(birth), now.saturating_sub(of(birth)), Sample::new(size, 0));
            bytes += size;
        }
    }
    census.finish();
    judge(&Evidence {
        now,
        ended: false,
        times,
        living: census.of(1).unwrap(),
        freed: lifetimes.iter().map(|&blocks| u64::from(blocks)).sum(),
        lifetimes: seen.lifetimes.then_some(&lifetimes),
        bytes,
        trend: series.trend(1, now),
        ascent: series.ascent(1, now),
        balance: series.balance(),
        windows: None,
        is_full: seen.is_full,
        lost: seen.lost,
    })
}

fn kind(lives: &[Life], seen: Seen) -> Kind {
    judged(lives, seen).0.kind()
}

/// Blocks that live for a time given by a random number.
fn living(rate: f64, from: f64, to: f64, life: impl Fn(f64) -> f64) -> Vec<Life> {
    let mut state = 7;
    births(rate, from, to, 3).map(|birth| (birth, birth + life(random(&mut state)))).collect()
}

/// A part of the blocks lives for ever.
fn leaking(part: f64, life: f64) -> impl Fn(f64) -> f64 {
    move |number| if number < part { NEVER } else { life * number }
}

#[test]
fn every_slow_leak_grows_however_busy_its_stack_is() {
    for (rate, part) in [(1.0, 1.0), (20.0, 0.1), (3000.0, 0.001), (5000.0, 0.001), (300.0, 1.0)] {
        for life in [0.001, 0.2, 2.0, 4.0] {
            let lives = living(rate, 0.0, 40.0, leaking(part, life));
            let (grounds, trend) = judged(&lives, SEEN);
            assert_eq!(grounds.kind(), Kind::Growing, "{rate} {part} {life}: {grounds:?}");
            let (truth, trend) = (100.0 * rate * part, trend.unwrap());
            assert!(trend.low <= truth && truth <= trend.high, "{rate} {part} {life}: {trend:?}");
        }
    }
}

/// Without new blocks, nothing that grew shows how it goes on.
#[test]
fn a_full_table_leaves_no_verdict_but_those_that_it_cannot_make_wrong() {
    let full = Seen { is_full: true, ..SEEN };
    let filling = living(100.0, 0.0, 12.0, |_| NEVER);
    assert_ne!(kind(&filling, SEEN), Kind::TooEarly);
    assert_eq!(judged(&filling, full), (Grounds::Untracked, None));
    assert_eq!(judged(&living(100.0, 0.0, 40.0, |number| number), full), (Grounds::Untracked, None));
    assert_eq!(kind(&living(20.0, 0.0, 40.0, leaking(0.5, 1.0)), full), Kind::Growing);
}

#[test]
fn the_reason_says_at_which_age_blocks_stay() {
    let (grounds, _) = judged(&living(3000.0, 0.0, 40.0, leaking(0.002, 0.9)), SEEN);
    let Grounds::Outlive { survivors, age, before, after } = grounds else { panic!("{grounds:?}") };
    assert!((150..350).contains(&survivors) && before > 100_000, "{grounds:?}");
    assert!(
        age >= Duration::from_millis(536) && age < Duration::from_millis(1100) && after < 8,
        "{grounds:?}"
    );
    assert!(matches!(judged(&living(5.0, 0.0, 40.0, |_| NEVER), SEEN).0, Grounds::NeverFreed { .. }));
}

#[test]
fn what_turns_over_is_steady_whatever_its_lifetimes() {
    let lives: [fn(f64) -> f64; 6] = [
        |_| 0.001,
        |_| 5.0,
        |number| 8.0 * number,
        |number| -3.0 * number.ln(),
        |number| 0.5 / number.powf(0.4),
        |number| if number < 0.01 { 6.0 } else { 0.01 },
    ];
    for (place, life) in lives.into_iter().enumerate() {
        for rate in [5.0, 100.0, 2000.0] {
            let found = kind(&living(rate, 0.0, 40.0, life), SEEN);
            assert!(found >= Kind::WarmingUp, "{place} {rate}: {found:?}");
            assert!(found == Kind::Steady || place > 2 || rate < 10.0, "{place} {rate}: {found:?}");
        }
    }
}

#[test]
fn a_cache_that_fills_is_warming_up() {
    // The chance of a miss falls as it fills.
    let mut state = 5;
    let filling = births(100.0, 0.0, 40.0, 3).filter(|time| random(&mut state) < (-time / 12.0).exp());
    let lives: Vec<Life> = filling.map(|birth| (birth, NEVER)).collect();
    assert_eq!(kind(&lives, SEEN), Kind::WarmingUp);
    // Full after 25 s: then the oldest goes for each new one.
    let lives = living(80.0, 0.0, 40.0, |_| 25.0);
    assert!(kind(&lives, SEEN) >= Kind::WarmingUp);
}

#[test]
fn tables_of_the_start_are_start_up_also_beside_a_leak() {
    let table = || (0..1000).map(|n| (f64::from(n) / 500.0, NEVER));
    assert_eq!(kind(&table().collect::<Vec<_>>(), SEEN), Kind::StartUp);
    let both: Vec<Life> = table().chain(living(2.0, 0.0, 40.0, |_| NEVER)).collect();
    let (grounds, trend) = judged(&both, SEEN);
    assert_eq!(grounds.kind(), Kind::Growing, "{grounds:?}");
    let rate = trend.unwrap().bytes_per_second;
    assert!((120.0..350.0).contains(&rate), "without the start: {rate}");
}

#[test]
fn a_leak_that_comes_in_bursts_is_not_warming_up() {
    let burst = |begin: u32| (0..50).map(move |n| (f64::from(begin) + f64::from(n) / 100.0, NEVER));
    let lives: Vec<Life> = (0..8).flat_map(|n| burst(5 * n + 1)).collect();
    assert_eq!(kind(&lives, SEEN), Kind::Growing);
}

#[test]
fn a_queue_and_batches_are_no_leaks() {
    // Backs up for 30 s: each waits as long as the queue is.
    let queue: Vec<Life> = births(50.0, 0.0, 40.0, 3).map(|birth| (birth, 2.0 * birth)).collect();
    assert_eq!(kind(&queue, SEEN), Kind::WarmingUp);
    let batches: Vec<Life> =
        births(200.0, 0.0, 40.0, 3).map(|birth| (birth, (birth / 7.0).floor() * 7.0 + 7.0)).collect();
    for seconds in 15..40 {
        let found = kind(&batches, Seen { seconds, ..SEEN });
        assert!(found >= Kind::WarmingUp, "after {seconds} s: {found:?}");
    }
    // After two minutes without an end, a queue that backs up is a leak as well.
    let queue: Vec<Life> = births(50.0, 0.0, 200.0, 3).map(|birth| (birth, 2.0 * birth)).collect();
    assert!(matches!(judged(&queue, Seen { seconds: 200, ..SEEN }).0, Grounds::FallingBehind { .. }));
}

#[test]
fn little_evidence_is_too_early() {
    let brief = Seen { seconds: 9, ..SEEN };
    let (grounds, _) = judged(&living(100.0, 0.0, 9.0, |_| NEVER), brief);
    assert_eq!(grounds, Grounds::Brief { until: Duration::from_secs(10) });
    let few: Vec<Life> = [4.0, 14.0, 27.0].map(|birth| (birth, NEVER)).to_vec();
    let (grounds, _) = judged(&few, SEEN);
    assert!(matches!(grounds, Grounds::Few { blocks: 3, until: Some(_) }), "{grounds:?}");
    // One block long ago, and the second after a longer pause than since.
    assert_eq!(kind(&[(1.0, NEVER), (25.0, NEVER)], SEEN), Kind::TooEarly);
}

#[test]
fn a_stack_that_is_new_has_its_own_time() {
    let late = living(100.0, 34.0, 40.0, |_| NEVER);
    assert_eq!(kind(&late, SEEN), Kind::TooEarly);
    let late = living(100.0, 20.0, 40.0, |_| NEVER);
    assert_eq!(kind(&late, SEEN), Kind::Growing);
}

#[test]
fn a_cache_that_was_full_before_is_no_leak() {
    let lives = living(100.0, 0.0, 40.0, |_| 60.0);
    let replacing = Seen { unknown: 100, ..SEEN };
    assert!(matches!(judged(&lives, replacing).0, Grounds::Replacing { .. }));
    assert_eq!(kind(&lives, SEEN), Kind::Growing, "nothing else is freed");
    // Others' frees do not hide a leak that is small beside them.
    let mut both = lives;
    both.extend(living(2.0, 0.0, 40.0, |_| NEVER));
    assert_eq!(kind(&living(2.0, 0.0, 40.0, |_| NEVER), replacing), Kind::Growing);
}

#[test]
fn what_is_lost_is_lost_at_once() {
    let lost = Amount { bytes: 300, blocks: 3 };
    let seen = Seen { seconds: 2, lost: Some((lost, 40)), ..SEEN };
    let (grounds, _) = judged(&living(100.0, 0.0, 2.0, |_| 0.1), seen);
    assert_eq!(grounds, Grounds::Unreachable { lost, checked: 40 });
}

#[test]
fn what_grew_and_was_freed_at_the_end_has_not_leaked() {
    let mut lifetimes = [0; 16];
    lifetimes[class(60.0)] = 2000;
    let none = Living::default();
    // A queue that backs up, as it was seen a moment before the end.
    let queue = |ended, bytes| Evidence {
        now: Duration::from_secs(200),
        ended,
        times: times(200, 1),
        living: &none,
        freed: 2000,
        lifetimes: Some(&lifetimes),
        bytes,
        trend: Some(Trend { bytes_per_second: 1000.0, low: 900.0, high: 1100.0 }),
        ascent: Some(Ascent { first: 1000.0, last: 1000.0, rises: 190, fell: false, multiplied: false }),
        balance: None,
        windows: None,
        is_full: false,
        lost: None,
    };
    let kind = |evidence| judge(&evidence).0.kind();
    assert_eq!([kind(queue(false, 500)), kind(queue(true, 500))], [Kind::Growing, Kind::Steady]);
    assert_eq!(kind(queue(true, 190_000)), Kind::Growing, "what was left");
}

#[test]
fn without_lifetimes_growth_alone_decides() {
    let without = Seen { lifetimes: false, ..SEEN };
    assert_eq!(kind(&living(20.0, 0.0, 40.0, |_| NEVER), without), Kind::Growing);
    assert_eq!(kind(&living(300.0, 0.0, 40.0, |_| 3.0), without), Kind::Steady);
}

/// A stack that was watched for so many seconds and has allocated until now, with the longest pause.
fn times(watched: u64, gap: u64) -> Times {
    Times { watched: Duration::from_secs(watched), gap: Duration::from_secs(gap), ..Times::default() }
}

/// What windows show: a third of them counts allocations, and frees of old blocks are seen with the probability `share`.
fn in_windows(lives: &[Life], share: f64) -> (Grounds, Option<Trend>) {
    let now = Duration::from_secs(60);
    let mut state = 11;
    let mut clock = SeenClock::default();
    clock.note(Duration::ZERO, Duration::ZERO);
    clock.note(now, now.mul_f64(share / 3.0));
    let mut census = Census::new([(1, Duration::ZERO..now)], clock);
    let (mut lifetimes, mut bytes) = ([0; 16], 0);
    for &(birth, death) in lives {
        if random(&mut state) >= share / 3.0 {
            continue;
        }
        let is_seen = death - birth < 0.1 || random(&mut state) < share;
        if death < 60.0 && is_seen {
            lifetimes[class(death - birth)] += 1;
        } else {
            let birth = Duration::from_secs_f64(birth);
            census.add(1, birth, now.saturating_sub(birth), Sample::new(100, 0));
            bytes += 100;
        }
    }
    census.finish();
    judge(&Evidence {
        now,
        ended: false,
        times: times(60, 4),
        living: census.of(1).unwrap(),
        freed: lifetimes.iter().map(|&blocks| u64::from(blocks)).sum(),
        lifetimes: Some(&lifetimes),
        bytes,
        trend: None,
        ascent: None,
        balance: None,
        windows: Some(share),
        is_full: false,
        lost: None,
    })
}

#[test]
fn windows_tell_only_what_they_have_seen() {
    let fast = living(2000.0, 0.0, 60.0, |_| NEVER);
    let (grounds, trend) = in_windows(&fast, 0.15);
    assert_eq!(grounds.kind(), Kind::Growing, "{grounds:?}");
    let trend = trend.unwrap();
    assert!(trend.low < 200_000.0 && 200_000.0 < trend.high, "{trend:?}");
    let cache = living(4000.0, 0.0, 60.0, |_| 4.0);
    let (grounds, trend) = in_windows(&cache, 0.15);
    assert_eq!(grounds.kind(), Kind::Steady, "{grounds:?}");
    assert_eq!(trend, None, "how many were freed unseen is not known well enough");
    let busy = living(3000.0, 0.0, 60.0, leaking(0.001, 0.02));
    let (grounds, _) = in_windows(&busy, 0.15);
    assert_eq!(grounds.kind(), Kind::TooEarly, "never steady: {grounds:?}");
    let slow = living(5.0, 0.0, 60.0, |_| NEVER);
    let (grounds, _) = in_windows(&slow, 0.05);
    assert!(matches!(grounds, Grounds::Unwatched { until: Some(_), .. }), "{grounds:?}");
}

#[test]
fn turnover_in_windows_is_doubted_where_the_process_grows() {
    use super::doubt;
    use crate::profile::{Balance, Course, Parts};
    let turnover = Grounds::SeenTurnover { freed: 900 };
    let growing = |leaking| Balance {
        leaking,
        rate: Parts {
            total: 20_000.0,
            blocks: 8000.0,
            kept: 1000.0,
            unexplained: 1000.0,
            ..Parts::default()
        },
        ..Balance::default()
    };
    assert_eq!(doubt(turnover, &Balance::default()), turnover, "memory is flat");
    assert_eq!(doubt(turnover, &growing(6000.0)), turnover, "what leaks explains the growth");
    assert_eq!(doubt(turnover, &growing(1000.0)), Grounds::Unexplained { bytes_per_second: 9000.0 });
    let ended = Balance {
        ended: Some(Amount { bytes: 1 << 20, blocks: 900 }),
        span: Duration::from_secs(10),
        grown: growing(0.0).rate,
        course: Course::Growing,
        ..Balance::default()
    };
    assert_eq!(doubt(turnover, &ended), Grounds::Unexplained { bytes_per_second: 1000.0 });
    let flat = Balance { course: Course::Flat, ..ended };
    assert_eq!(doubt(turnover, &flat), turnover);
    let counted = Grounds::Turnover { freed: 900 };
    assert_eq!(doubt(counted, &growing(0.0)), counted, "everything was counted");
}
