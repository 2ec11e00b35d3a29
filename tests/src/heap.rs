//! The JSON of `memtrace scan`.

use serde::Deserialize;

use crate::report::Amount;

/// The report of one process.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct HeapReport {
    pub last: bool,
    pub heap: Heap,
}

impl HeapReport {
    /// The reports in some text, one on each line.
    ///
    /// # Panics
    /// If a line is not such a report.
    #[must_use]
    pub fn all(text: &str) -> Vec<Self> {
        let of = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        text.lines().map(of).collect()
    }
}

/// A heap.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Heap {
    pub allocator: String,
    pub in_use: Amount,
    pub kept: Kept,
    pub verdict: String,
    pub lost: Option<Amount>,
    pub directly_lost: Option<Amount>,
    pub complete: bool,
    pub traced_s: Option<f64>,
    pub classes: Vec<Class>,
    pub held_by: Vec<Held>,
    pub growth: Option<Growth>,
}

/// Free memory of the allocator.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Kept {
    pub bytes: u64,
    pub absent_bytes: u64,
    pub trimmable_bytes: u64,
}

/// Who allocates blocks of a size.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct AllocatedBy {
    pub function: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub blocks: u64,
    pub loses: bool,
}

/// Blocks of one size.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Class {
    pub size: u64,
    pub blocks: u64,
    pub lost_blocks: u64,
    pub directly_lost_blocks: u64,
    pub r#type: Option<String>,
    pub hint: Option<String>,
    pub hint_kind: Option<String>,
    pub allocated_by: Vec<AllocatedBy>,
}

/// What a root holds.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Held {
    pub root: String,
    pub name: Option<String>,
    pub bytes: u64,
    pub blocks: u64,
}

/// What has changed.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Growth {
    pub lost_blocks: i64,
    pub lost: Vec<Grown>,
    pub sizes: Vec<Grown>,
}

/// How a size has changed.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Grown {
    pub size: u64,
    pub r#type: Option<String>,
    pub blocks: u64,
}

impl Heap {
    /// The blocks of a size that are lost: of which type, how many, how many directly.
    #[must_use]
    pub fn lost_of(&self, size: u64) -> Vec<(Option<&str>, u64, u64)> {
        let classes = self.classes.iter().filter(|class| class.size == size && class.lost_blocks > 0);
        classes
            .map(|class| (class.r#type.as_deref(), class.lost_blocks, class.directly_lost_blocks))
            .collect()
    }
}
