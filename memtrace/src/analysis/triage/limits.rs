//! Limits, and when they are reached.

use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{Interval, LEAST, MAX_LISTED, difference};
use crate::profile::machine::{BoundKind, Bounded};

/// A forecast further ahead says nothing: ten years.
const FURTHEST: f64 = 10.0 * 365.0 * 86_400.0;

/// Limits, those that are reached first at the beginning; then those with the smallest part left.
pub(super) fn bounds(interval: Interval<'_>) -> Vec<Bounded> {
    let seconds = interval.span().as_secs_f64();
    let earlier: FxHashMap<&BoundKind, u64> =
        interval.before.bounds.iter().map(|bound| (&bound.kind, bound.used)).collect();
    let mut found: Vec<Bounded> = interval
        .now
        .bounds
        .iter()
        .map(|bound| {
            let grown = earlier.get(&bound.kind).map_or(0, |&before| difference(bound.used, before));
            let rate = if seconds > 0.0 { grown as f64 / seconds } else { 0.0 };
            let left = bound.bytes.saturating_sub(bound.used) as f64;
            let reached = (grown >= LEAST && rate > 0.0).then(|| left / rate);
            let reached_in = reached
                .filter(|seconds| *seconds < FURTHEST)
                .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
            Bounded { kind: bound.kind.clone(), bytes: bound.bytes, used: bound.used, rate, reached_in }
        })
        .collect();
    let left = |bound: &Bounded| bound.bytes.saturating_sub(bound.used) as f64 / bound.bytes.max(1) as f64;
    found.sort_by(|a, b| {
        let time = |bound: &Bounded| bound.reached_in.unwrap_or(Duration::MAX);
        time(a).cmp(&time(b)).then(left(a).total_cmp(&left(b)))
    });
    found.truncate(MAX_LISTED);
    found
}
