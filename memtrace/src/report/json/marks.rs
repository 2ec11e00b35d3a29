//! Marks, and the span of time that a report is limited to.

use std::time::Duration;

use serde::Serialize;

use super::{optional_seconds, seconds, share};
use crate::profile::{self, Profile};

/// A moment that was marked.
#[derive(Serialize)]
pub(super) struct Mark {
    /// From 1.
    number: u64,
    /// Seconds since tracing began.
    #[serde(serialize_with = "seconds")]
    at_s: Duration,
}

/// A time between two marks, or since one. `outstanding`, and the outstanding blocks of stacks, are those allocated in it.
#[derive(Serialize)]
pub(super) struct Span {
    /// The number of the mark.
    from_mark: u64,
    /// Seconds since tracing began.
    #[serde(serialize_with = "seconds")]
    from_s: Duration,
    /// The number of the mark; null: the span lasts.
    to_mark: Option<u64>,
    /// Seconds since tracing began; null: the span lasts.
    #[serde(serialize_with = "optional_seconds")]
    to_s: Option<Duration>,
    /// The part of it in which allocations were seen, 0 to 1.
    #[serde(serialize_with = "share")]
    attached_share: f64,
}

impl From<&profile::Mark> for Mark {
    fn from(mark: &profile::Mark) -> Self {
        Self { number: mark.number, at_s: mark.at }
    }
}

impl Span {
    pub(super) fn new(span: &profile::Span, profile: &Profile) -> Self {
        Self {
            from_mark: span.from.number,
            from_s: span.from.at,
            to_mark: span.to.map(|to| to.number),
            to_s: span.to.map(|to| to.at),
            attached_share: profile.marks.seen(span, profile.elapsed),
        }
    }
}
