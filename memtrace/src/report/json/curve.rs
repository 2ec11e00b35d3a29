//! What stacks and processes held over the session, in columns.

use std::time::Duration;

use serde::{Serialize, Serializer, ser::SerializeSeq as _};

use crate::profile::{self, Curves, Parts, Row, Weight};

/// What a stack held.
#[derive(Serialize)]
pub(super) struct Curve<'a> {
    /// Moments, as time since tracing began; the last is the report's.
    #[serde(serialize_with = "all_seconds")]
    at_s: &'a [Duration],
    /// Outstanding at each of them.
    bytes: &'a [u64],
}

impl<'a> Curve<'a> {
    /// Of a row; `None` if nothing was kept of it.
    pub(super) fn of(curves: &'a Curves, row: &Row) -> Option<Self> {
        curves.of(row).map(|curve: &profile::Curve| Self { at_s: &curves.at, bytes: &curve.bytes })
    }
}

/// The memory of a process.
#[derive(Serialize)]
pub(super) struct Weights {
    /// Moments, as time since tracing began.
    #[serde(serialize_with = "all_seconds")]
    at_s: Vec<Duration>,
    /// Resident or swapped out at each of them.
    bytes: Vec<u64>,
    /// Growth up to then, and its parts, which add up to it.
    grown: Vec<i64>,
    blocks: Vec<i64>,
    mapped: Vec<i64>,
    stacks: Vec<i64>,
    kept: Vec<i64>,
    shared: Vec<i64>,
    unexplained: Vec<i64>,
}

impl Weights {
    /// Of these moments; `None` if there is none.
    pub(super) fn of(weights: &[Weight]) -> Option<Self> {
        let column = |part: fn(&Parts) -> f64| weights.iter().map(|of| part(&of.grown) as i64).collect();
        (!weights.is_empty()).then(|| Self {
            at_s: weights.iter().map(|of| of.at).collect(),
            bytes: weights.iter().map(|of| of.bytes).collect(),
            grown: column(|parts| parts.total),
            blocks: column(|parts| parts.blocks),
            mapped: column(|parts| parts.mapped),
            stacks: column(|parts| parts.stacks),
            kept: column(|parts| parts.kept),
            shared: column(|parts| parts.shared),
            unexplained: column(|parts| parts.unexplained),
        })
    }
}

fn all_seconds<S: Serializer>(durations: impl AsRef<[Duration]>, serializer: S) -> Result<S::Ok, S::Error> {
    let durations = durations.as_ref();
    let mut list = serializer.serialize_seq(Some(durations.len()))?;
    for duration in durations {
        list.serialize_element(&(duration.as_millis() as f64 / 1e3))?;
    }
    list.end()
}
