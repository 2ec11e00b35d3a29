//! When a limit is reached.

use std::time::Duration;

use super::{LEAST_SPAN, MAX_CGROUPS, Sample, noise, slope_of, span_of, total};
use crate::profile::{Limit, LimitKind};

/// A forecast further ahead says nothing.
const FURTHEST: f64 = 10.0 * 365.0 * 86_400.0;

/// What counts against a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// What a cgroup holds: the place in [`Sample::held`].
    Cgroup(usize),
    /// The process's address space.
    AddressSpace,
    /// What the machine has left.
    Available,
}

/// Something that bounds the memory of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bound {
    /// What it is.
    pub kind: LimitKind,
    /// Bytes.
    pub bytes: u64,
    /// What counts against it.
    pub measure: Measure,
}

/// The bound that is reached first, or the narrowest if none is.
pub(super) fn first(samples: &[(Duration, Sample)], bounds: &[Bound]) -> Option<Limit> {
    let limits = bounds.iter().map(|bound| limit(samples, bound));
    limits.min_by_key(|limit| {
        (limit.reached_in.unwrap_or(Duration::MAX), limit.bytes.saturating_sub(limit.used))
    })
}

fn limit(samples: &[(Duration, Sample)], bound: &Bound) -> Limit {
    let last = samples.last().map(|(_, sample)| *sample).unwrap_or_default();
    let held = |at: usize| move |sample: &Sample| sample.held.get(at).copied().unwrap_or_default();
    let (used, growth) = match bound.measure {
        Measure::Cgroup(at) => (held(at.min(MAX_CGROUPS))(&last), growth(samples, held(at))),
        Measure::AddressSpace => (last.resident.size, growth(samples, |sample| sample.resident.size)),
        Measure::Available => (0, growth(samples, total)),
    };
    let left = bound.bytes.saturating_sub(used) as f64;
    let seconds = growth.map(|growth| left / growth).filter(|&seconds| seconds < FURTHEST);
    let reached_in = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    Limit { kind: bound.kind.clone(), bytes: bound.bytes, used, reached_in }
}

/// Growth per second that is no noise.
fn growth(samples: &[(Duration, Sample)], figure: impl Fn(&Sample) -> u64) -> Option<f64> {
    let (_, last) = samples.last()?;
    if span_of(samples) < LEAST_SPAN {
        return None;
    }
    let slope = slope_of(samples, figure)?;
    let is_growth = slope.low > 0.0 && slope.median * span_of(samples).as_secs_f64() >= noise(&last.resident);
    is_growth.then_some(slope.median)
}
