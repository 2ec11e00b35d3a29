//! Verdicts for scripts.

use std::time::Duration;

use serde::Serialize;

use super::values::{rate, seconds};
use crate::profile;
use crate::report::verdicts;

/// What the blocks of a stack do.
#[derive(Serialize)]
pub(super) struct Verdict {
    /// `lost`, `growing`, `warming_up`, `too_early`, `steady` or `start_up`.
    verdict: &'static str,
    /// Why, in words.
    verdict_reason: String,
    /// Growth over the whole session; null if that is not known.
    growth: Option<Growth>,
    /// How long freed blocks lived; null with `--no-lifetimes`.
    lifetimes: Option<Vec<Lifetime>>,
}

/// Growth, with the limits between which it lies with a probability of about 95 %.
#[derive(Serialize)]
struct Growth {
    #[serde(serialize_with = "rate")]
    bytes_per_second: f64,
    #[serde(serialize_with = "rate")]
    low: f64,
    #[serde(serialize_with = "rate")]
    high: f64,
}

/// Freed blocks that lived about as long.
#[derive(Serialize)]
struct Lifetime {
    /// They lived at least this long, and less than the next possible value, which is twice that (the first after 0 is
    /// 0.034).
    #[serde(serialize_with = "seconds")]
    from_s: Duration,
    /// How many: of samples, where samples are taken.
    blocks: u32,
}

impl From<&profile::Verdict> for Verdict {
    fn from(verdict: &profile::Verdict) -> Self {
        Self::new(verdict, verdicts::reason(verdict))
    }
}

impl Verdict {
    /// What the mappings of a stack do.
    pub(super) fn of_mappings(verdict: &profile::Verdict) -> Self {
        Self::new(verdict, verdicts::of_mappings(verdict))
    }

    fn new(verdict: &profile::Verdict, verdict_reason: String) -> Self {
        let growth = |trend: profile::Trend| Growth {
            bytes_per_second: trend.bytes_per_second,
            low: trend.low,
            high: trend.high,
        };
        Self {
            verdict: verdict.kind().key(),
            verdict_reason,
            growth: verdict.trend.map(growth),
            lifetimes: verdict.lifetimes.as_ref().map(lifetimes),
        }
    }
}

/// Those of which there are some.
fn lifetimes(lifetimes: &profile::Lifetimes) -> Vec<Lifetime> {
    let classes = lifetimes.iter().enumerate().filter(|(_, blocks)| **blocks > 0);
    classes.map(|(class, &blocks)| Lifetime { from_s: profile::lifetime_begin(class), blocks }).collect()
}
