//! What stacks and processes held over a session, at few moments: what curves are drawn from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Parts, Row};

/// What the first stacks of a report held over the session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curves {
    /// Moments, as time since tracing began: ascending, the last is the report's. None if nothing was kept.
    pub at: Vec<Duration>,
    /// The stacks.
    pub stacks: Vec<Curve>,
}

/// What one stack held at each moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curve {
    /// Its [`Row::id`].
    pub id: u64,
    /// Its process.
    pub pid: u32,
    /// Outstanding bytes at each moment; the last is what the row has.
    pub bytes: Vec<u64>,
}

impl Curves {
    /// Stacks of a report that have a curve: the first in its order.
    pub const MOST: usize = 100;

    /// The curve of a row; `None` if it was not among the first when the report was made.
    #[must_use]
    pub fn of(&self, row: &Row) -> Option<&Curve> {
        self.stacks.iter().find(|curve| curve.id == row.id && row.is_of(curve.pid))
    }
}

/// The memory of a process at a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Weight {
    /// Time since tracing began.
    pub at: Duration,
    /// The resident set and what is swapped out, bytes.
    pub bytes: u64,
    /// Growth since the first moment. What the allocator keeps and what is unexplained are told apart as in the growth up to
    /// the report: how they were related earlier is unknown.
    pub grown: Parts,
}
