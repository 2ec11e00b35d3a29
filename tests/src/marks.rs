//! Marks in the agent's JSON.

use serde::Deserialize;

/// A moment that was marked.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct Mark {
    pub number: u64,
    pub at_s: f64,
}

/// The time that a report is limited to.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct Span {
    pub from_mark: u64,
    pub from_s: f64,
    pub to_mark: Option<u64>,
    pub to_s: Option<f64>,
    pub attached_share: f64,
}
