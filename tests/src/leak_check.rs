//! The part of the agent's JSON that is about leak checks.

use serde::Deserialize;

use crate::report::Amount;

/// A leak check.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct LeakCheck {
    pub moment: String,
    pub at_s: f64,
    pub scans: u32,
    pub bytes_read: u64,
    pub lost: Amount,
    pub directly_lost: Amount,
    pub indirectly_lost: Amount,
    pub possibly_lost: Amount,
    pub reachable: Amount,
    pub suppressed: Amount,
    pub undecided_blocks: u64,
    pub before: Option<Before>,
    pub complete: bool,
    pub pid: Option<u32>,
}

/// Blocks from before tracing began.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Before {
    pub checked_blocks: u64,
    pub lost: Amount,
    pub sizes: Vec<LostSize>,
}

/// Lost blocks of one size.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "as above")]
pub struct LostSize {
    pub size: u64,
    pub lost_blocks: u64,
}

/// Who holds blocks of a stack.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct HeldBy {
    pub root: String,
    pub name: Option<String>,
    pub module: Option<String>,
    pub steps: u32,
    pub share: f64,
}

/// What a leak check found in several stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Blocks checked.
    pub checked: u64,
    /// Blocks that are lost.
    pub blocks: u64,
    /// The part to which other lost blocks point.
    pub indirectly: u64,
}
