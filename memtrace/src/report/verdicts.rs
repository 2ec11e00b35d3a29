//! Verdicts in words.

use std::time::Duration;

use crate::profile::units::{format_age, format_bytes, format_count, format_number, format_percent};
use crate::profile::{Grounds, Kind, Trend, Verdict};

/// A smaller error of a growth is not worth a word, in percent.
const LEAST_ERROR: f64 = 5.0;
/// Of a larger one, only that it is large.
const MOST_ERROR: f64 = 200.0;

/// A verdict's name for people.
pub(super) fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Lost => "lost",
        Kind::Growing => "growing",
        Kind::WarmingUp => "warming up",
        Kind::TooEarly => "too early",
        Kind::Steady => "steady",
        Kind::StartUp => "start-up",
    }
}

/// How a verdict's name is emphasized.
pub(super) fn colour(kind: Kind) -> &'static str {
    match kind {
        Kind::Lost => "\x1b[1;31m",
        Kind::Growing => "\x1b[31m",
        Kind::WarmingUp => "\x1b[33m",
        Kind::TooEarly => "\x1b[36m",
        Kind::Steady | Kind::StartUp => "\x1b[32m",
    }
}

/// How fast the blocks of a stack grow, where its verdict is about growth: in windows too as if all of them had been seen.
pub(super) fn growth(verdict: &Verdict) -> Option<String> {
    let grows = matches!(verdict.kind(), Kind::Lost | Kind::Growing | Kind::WarmingUp);
    let Trend { bytes_per_second, low, high } = verdict.trend.filter(|_| grows)?;
    let half_width = (high - bytes_per_second).max(bytes_per_second - low);
    let error = match (half_width / bytes_per_second.abs() * 100.0).round() {
        percent if percent < LEAST_ERROR => String::new(),
        percent if percent <= MOST_ERROR => format!(" \u{b1} {percent} %"),
        _unknown => ", hardly known".to_owned(),
    };
    Some(format!("{}{error}", per_second(bytes_per_second)))
}

/// Why a stack has its verdict, as a line of its row. `None` for what is lost: the line about the leak check says so.
pub(super) fn line(verdict: &Verdict) -> Option<String> {
    (verdict.kind() != Kind::Lost).then(|| reason(verdict))
}

/// A growth, to three digits.
fn per_second(rate: f64) -> String {
    let sign = if rate < 0.0 { "-" } else { "+" };
    format!("{sign}{}/s", three_digits(rate.abs()))
}

/// Bytes, of which at most three digits matter.
fn three_digits(bytes: f64) -> String {
    let unit = 10_f64.powi(bytes.max(1.0).log10().floor() as i32 - 2).max(1.0);
    format_bytes(((bytes / unit).round() * unit) as u64)
}

/// What a verdict is about.
struct Words {
    one: &'static str,
    allocated: &'static str,
    freed: &'static str,
}

const BLOCKS: Words = Words { one: "block", allocated: "allocated", freed: "freed" };
const MAPPINGS: Words = Words { one: "mapping", allocated: "mapped", freed: "unmapped" };

/// Why the verdict on the blocks of a stack is what it is, in a sentence without an end.
pub(super) fn reason(verdict: &Verdict) -> String {
    reason_in(verdict, &BLOCKS)
}

/// Why the verdict on what a stack mapped is what it is.
pub(super) fn of_mappings(verdict: &Verdict) -> String {
    reason_in(verdict, &MAPPINGS)
}

fn reason_in(verdict: &Verdict, words: &Words) -> String {
    let Words { one, allocated, freed: gone } = words;
    let blocks = |count: u64| format_count(count, one);
    let freed = |count: u64| format!("{} {gone}", format_number(count));
    match verdict.grounds {
        Grounds::Unreachable { lost, checked } => format!(
            "nothing in the process leads to {} of {} checked",
            format_number(lost.blocks),
            blocks(checked)
        ),
        Grounds::Outlive { survivors, age, before, after } => format!(
            "{} live on at ages from {} on, at which {} of {} were {gone}",
            blocks(survivors),
            format_age(age),
            match after {
                0 => "none".to_owned(),
                after => format_number(after),
            },
            format_number(before.saturating_add(after)),
        ),
        Grounds::NeverFreed { survivors } => {
            format!("none of {}, {allocated} all the time, was {gone}", blocks(survivors))
        }
        Grounds::Enlarged { times } => {
            format!("its {one}s became larger {}", format_count(times, "time"))
        }
        Grounds::FallingBehind { freed: count } => {
            format!("{}, but ever more wait for that", freed(count))
        }
        Grounds::Slowing { first, last } => {
            let per_second = |rate: f64| format!("{}/s", three_digits(rate.max(0.0)));
            format!("grew by {} at first, and by {} lately", per_second(first), per_second(last))
        }
        Grounds::OldestFreed { freed: count } => {
            format!(
                "more are {allocated} than {gone}, but the oldest are {gone}, {} so far",
                format_number(count)
            )
        }
        Grounds::Turnover { freed: count } => {
            format!("{} as others were {allocated}, without growth", freed(count))
        }
        Grounds::SeenTurnover { freed: count } => format!(
            "{} that were seen, about as many as if all are; a small leak among them would not show",
            freed(count)
        ),
        Grounds::Ceased { ago } => format!("nothing was {allocated} here for {}", format_age(ago)),
        Grounds::Brief { until: Duration::ZERO } => "not watched for long enough before its end".to_owned(),
        Grounds::Brief { until } => format!("not watched for long enough, {}", when(until)),
        Grounds::Few { blocks: count, until } => {
            let until = until.map_or(String::new(), |until| format!(", perhaps {}", when(until)));
            format!("{} so far, too few to tell{until}", blocks(count))
        }
        Grounds::Replacing { unknown_per_second } => format!(
            "blocks from before tracing began are freed as well, about {} a second",
            format_number(unknown_per_second.round() as u64)
        ),
        Grounds::Unexplained { bytes_per_second } => format!(
            "blocks are freed as others are allocated, as far as windows show, but the process grows by {} that no stack explains: it \
             may be a small leak among these; --max-overhead off tells",
            per_second(bytes_per_second).trim_start_matches('+')
        ),
        Grounds::Untracked => {
            "the table of live blocks was full (--max-live): new ones are not tracked".to_owned()
        }
        Grounds::Unwatched { share, until } => {
            let until = until.map_or(String::new(), |until| format!("; perhaps {}", when(until)));
            format!("frees were watched {} of the time, too little to tell{until}", format_percent(share))
        }
    }
}

/// A time since tracing began.
fn when(time: Duration) -> String {
    let seconds = time.as_millis().div_ceil(1000) as u64;
    match seconds {
        0..120 => format!("possible after {seconds} s of tracing"),
        _ => format!("possible after {} of tracing", format_age(Duration::from_secs(seconds))),
    }
}
