//! The balance of a process in the agent's JSON, as far as tests look at it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// What the memory of a process grows by.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct Balance {
    pub rss_bytes: u64,
    pub rss_bytes_per_second: f64,
    pub blocks_bytes_per_second: f64,
    pub blocks_known: String,
    pub grown_bytes: BTreeMap<String, i64>,
    pub uncounted: Option<String>,
    pub verdict: String,
    pub verdict_text: String,
    pub children_found: u64,
    pub children_grown_bytes: i64,
    pub limit: Option<Value>,
    pub seconds_to_limit: Option<f64>,
}
