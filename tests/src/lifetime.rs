//! The part of the agent's JSON that is about lifetimes of freed blocks.

use serde::Deserialize;

/// Freed blocks that lived about as long.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct Lifetime {
    pub from_s: f64,
    pub blocks: u64,
}
