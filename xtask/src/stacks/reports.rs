//! What the agent reports, as far as it matters here.

use std::borrow::Cow;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// One report.
#[derive(Deserialize)]
pub(super) struct Report<'a> {
    #[serde(borrow)]
    pub(super) stacks: Vec<Stack<'a>>,
    pub(super) mode: Mode,
    pub(super) losses: serde_json::Map<String, serde_json::Value>,
    pub(super) notes: Vec<String>,
}

/// How it came about.
#[derive(Deserialize)]
pub(super) struct Mode {
    pub(super) stacks: String,
}

/// A stack.
#[derive(Deserialize)]
pub(super) struct Stack<'a> {
    pub(super) allocated_blocks: u64,
    pub(super) complete: bool,
    pub(super) incomplete: Option<String>,
    #[serde(borrow)]
    pub(super) frames: Vec<Frame<'a>>,
}

/// A frame; those inlined at a place come before the function that is there.
#[derive(Deserialize)]
pub(super) struct Frame<'a> {
    #[serde(borrow)]
    pub(super) function: Option<Cow<'a, str>>,
    #[serde(borrow)]
    pub(super) module: Cow<'a, str>,
    #[serde(borrow)]
    offset: Cow<'a, str>,
    pub(super) inlined: bool,
}

impl Frame<'_> {
    /// The call's address: one byte before the return address.
    pub(super) fn call(&self) -> Option<u64> {
        u64::from_str_radix(self.offset.strip_prefix("0x")?, 16).ok()
    }
}

/// What the oracle says of a program's stacks.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Comparison {
    /// Each stack once.
    pub(super) stacks: Outcomes,
    /// Each walk that was compared: a sample.
    pub(super) events: Outcomes,
    /// Walks whose first frame is the return address of the allocator function.
    pub(super) first_caller_right: u64,
}

/// How walks compare with the other unwinder's.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Outcomes {
    pub(super) equal: u64,
    pub(super) ours_longer: u64,
    pub(super) reference_longer: u64,
    pub(super) differ: u64,
}

impl Outcomes {
    pub(super) fn all(&self) -> u64 {
        self.equal + self.ours_longer + self.reference_longer + self.differ
    }

    fn add(&mut self, other: &Self) {
        self.equal += other.equal;
        self.ours_longer += other.ours_longer;
        self.reference_longer += other.reference_longer;
        self.differ += other.differ;
    }
}

impl Comparison {
    pub(super) fn add(&mut self, other: Self) {
        self.stacks.add(&other.stacks);
        self.events.add(&other.events);
        self.first_caller_right += other.first_caller_right;
    }
}

/// What a run printed last, in one line.
pub(super) fn last<'o, T: Deserialize<'o>>(output: &'o str) -> Result<T> {
    let Some(line) = output.lines().rfind(|line| line.starts_with('{')) else {
        bail!("nothing was reported")
    };
    serde_json::from_str(line).context("a report")
}
