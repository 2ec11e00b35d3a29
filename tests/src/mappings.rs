//! The part of the agent's JSON that is about memory that processes mapped themselves.

use serde::Deserialize;

use crate::report::Frame;

/// What the target mapped itself.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Mappings {
    pub bytes: u64,
    pub ranges: u64,
    pub stacks: Vec<MappingStack>,
}

/// One stack and what it mapped.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct MappingStack {
    pub bytes: u64,
    pub ranges: u64,
    pub kind: String,
    pub ended_threads: Option<u64>,
    pub verdict: Option<String>,
    pub frames: Vec<Frame>,
}
