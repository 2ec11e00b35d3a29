//! The agent's JSON, as far as tests look at it.

use std::{collections::BTreeMap, ops::AddAssign};

use serde::Deserialize;
use serde_json::Value;

use crate::Balance;
use crate::leak_check::{HeldBy, LeakCheck, Lost};
use crate::lifetime::Lifetime;
use crate::mappings::Mappings;
use crate::marks::{Mark, Span};

/// One report.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "the names are those of the JSON, which the agent documents")]
pub struct Report {
    pub elapsed_s: f64,
    pub last: bool,
    pub target: Target,
    pub mode: Mode,
    pub outstanding: Amount,
    pub uncertainty: Option<Uncertainty>,
    pub unknown_frees: u64,
    pub overhead: Option<Overhead>,
    pub stacks_found: usize,
    pub stacks: Vec<Stack>,
    pub mappings: Option<Mappings>,
    pub leak_check: Option<LeakCheck>,
    pub process: Option<Balance>,
    pub kernel: Option<Kernel>,
    pub marks: Vec<Mark>,
    pub span: Option<Span>,
    pub losses: Losses,
    pub remarks: Vec<Remark>,
}

/// What the reader is to know besides figures.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Remark {
    pub key: String,
    #[serde(flatten)]
    pub values: BTreeMap<String, Value>,
}

/// How the figures came about.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Mode {
    pub exact: bool,
    pub sample_bytes: Option<u64>,
    pub stacks: String,
    pub attached_share: f64,
    pub gaps: u64,
    pub window_allocated_blocks: Option<u64>,
    pub window_freed_blocks: Option<u64>,
}

/// How far off an estimate may be.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Uncertainty {
    pub bytes: u64,
    pub blocks: u64,
    pub samples: u64,
}

/// What tracing cost.
#[derive(Clone, Copy, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Overhead {
    pub share: f64,
    pub limit: Option<f64>,
    pub calls: u64,
}

/// What kernel mode adds.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Kernel {
    pub kinds: Vec<String>,
    pub caches: Vec<Cache>,
    pub phantoms: Amount,
    pub own_allocations: u64,
}

/// One slab cache.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Cache {
    pub kind: String,
    pub cache: Option<String>,
    pub bytes: u64,
    pub blocks: u64,
    pub tracked_blocks: u64,
    pub grown_blocks: Option<i64>,
    pub phantom_share: f64,
}

/// What is traced.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Target {
    pub kind: String,
    pub pids: Vec<u32>,
    pub comm: String,
    pub allocators: Vec<String>,
}

/// Bytes and blocks.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "as above")]
pub struct Amount {
    pub bytes: u64,
    pub blocks: u64,
}

/// One stack.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Stack {
    pub id: String,
    /// Its process; 0 in the kernel.
    #[serde(default)]
    pub pid: u32,
    pub processes: Option<u64>,
    pub pids: Option<Vec<u32>>,
    pub bytes: u64,
    pub blocks: u64,
    pub allocated_bytes: u64,
    pub allocated_blocks: u64,
    pub freed_bytes: u64,
    pub freed_blocks: u64,
    pub bytes_per_second: f64,
    pub oldest_s: Option<f64>,
    pub checked_blocks: Option<u64>,
    pub lost_blocks: Option<u64>,
    pub indirectly_lost_blocks: Option<u64>,
    pub possibly_lost_bytes: Option<u64>,
    pub possibly_lost_blocks: Option<u64>,
    pub verdict: Option<String>,
    pub lifetimes: Option<Vec<Lifetime>>,
    #[serde(default)]
    pub held_by: Vec<HeldBy>,
    pub complete: bool,
    pub frames: Vec<Frame>,
    #[serde(default)]
    pub allocs: Vec<Alloc>,
    /// Kernel mode only, as what follows.
    pub kind: Option<String>,
    pub cache: Option<String>,
    pub tracked_blocks: Option<u64>,
}

/// One frame.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Frame {
    pub function: Option<String>,
    pub module: String,
    pub offset: String,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub inlined: bool,
}

/// One block.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct Alloc {
    pub addr: String,
    pub size: u64,
    pub age_s: f64,
}

/// What was lost.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[allow(missing_docs, reason = "as above")]
pub struct Losses {
    pub live_map_full: u64,
    pub live_map_full_bytes: u64,
    pub in_flight_lost: u64,
    pub ring_full: u64,
    pub no_walk_slot: u64,
    pub no_thread_slot: u64,
    pub stack_table_full: u64,
    pub missed_frees: u64,
    pub kernel_missed: u64,
    pub mappings_full: u64,
    pub mappings_full_bytes: u64,
    pub names_given_up: u64,
    pub children_not_traced: u64,
    pub stacks_incomplete: BTreeMap<String, u64>,
}

/// One line of `--trace`.
#[derive(Clone, Debug, Deserialize)]
#[allow(missing_docs, reason = "as above")]
pub struct TraceLine {
    pub event: String,
    pub pid: u32,
    pub addr: String,
    pub size: u64,
    pub stack: String,
    #[serde(default)]
    pub frames: Vec<Frame>,
}

/// What several stacks add up to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Outstanding bytes.
    pub bytes: u64,
    /// Outstanding blocks.
    pub blocks: u64,
    /// Allocated bytes.
    pub allocated_bytes: u64,
    /// Allocated blocks.
    pub allocated_blocks: u64,
    /// Freed bytes.
    pub freed_bytes: u64,
    /// Freed blocks.
    pub freed_blocks: u64,
}

impl Totals {
    /// The totals of blocks none of which was freed.
    #[must_use]
    pub const fn kept(bytes: u64, blocks: u64) -> Self {
        Self {
            bytes,
            blocks,
            allocated_bytes: bytes,
            allocated_blocks: blocks,
            freed_bytes: 0,
            freed_blocks: 0,
        }
    }
}

impl AddAssign<&Stack> for Totals {
    fn add_assign(&mut self, stack: &Stack) {
        self.bytes += stack.bytes;
        self.blocks += stack.blocks;
        self.allocated_bytes += stack.allocated_bytes;
        self.allocated_blocks += stack.allocated_blocks;
        self.freed_bytes += stack.freed_bytes;
        self.freed_blocks += stack.freed_blocks;
    }
}

impl Stack {
    /// The function that called the allocator, without its path; empty when it has no name.
    #[must_use]
    pub fn caller(&self) -> &str {
        self.frames.first().map_or("", Frame::name)
    }
}

impl Frame {
    /// The function without its path and hash; empty when it has no name.
    #[must_use]
    pub fn name(&self) -> &str {
        let name = self.function.as_deref().unwrap_or_default();
        let is_hash = |part: &str| part.len() == 17 && part.starts_with('h');
        name.rsplit("::").find(|part| !is_hash(part)).unwrap_or_default()
    }
}

impl Remark {
    /// One of its values; null if it has none of this name.
    #[must_use]
    pub fn value(&self, name: &str) -> &Value {
        self.values.get(name).unwrap_or(&Value::Null)
    }

    /// The texts in a list of its values.
    pub fn texts(&self, name: &str) -> impl Iterator<Item = &str> {
        self.value(name).as_array().into_iter().flatten().filter_map(Value::as_str)
    }
}

impl Report {
    /// Reads a line of the agent's standard output.
    ///
    /// # Panics
    /// If it is no report.
    #[must_use]
    pub fn parse(line: &str) -> Self {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not a report ({error}): {line}"))
    }

    /// What all stacks add up to whose innermost function is `function`. There can be several: walks by frame
    /// pointers wander where code has none.
    #[must_use]
    pub fn called_from(&self, function: &str) -> Totals {
        let mut totals = Totals::default();
        self.stacks.iter().filter(|stack| stack.caller() == function).for_each(|stack| totals += stack);
        totals
    }

    /// What all stacks add up to that go through `function`, called with its parameters by C++ or not.
    #[must_use]
    pub fn through(&self, function: &str) -> Totals {
        let mut totals = Totals::default();
        self.stacks_through(function).for_each(|stack| totals += stack);
        totals
    }

    fn stacks_through<'a>(&'a self, function: &'a str) -> impl Iterator<Item = &'a Stack> {
        let is_it = move |frame: &Frame| {
            let name = frame.function.as_deref().unwrap_or_default();
            name.split('(').next() == Some(function)
        };
        self.stacks.iter().filter(move |stack| stack.frames.iter().any(is_it))
    }

    /// What a leak check found in all stacks that go through `function`.
    #[must_use]
    pub fn lost(&self, function: &str) -> Lost {
        let mut lost = Lost::default();
        for stack in self.stacks_through(function) {
            lost.checked += stack.checked_blocks.unwrap_or_default();
            lost.blocks += stack.lost_blocks.unwrap_or_default();
            lost.indirectly += stack.indirectly_lost_blocks.unwrap_or_default();
        }
        lost
    }

    /// Who holds most blocks of the largest stack that goes through `function`.
    #[must_use]
    pub fn holder<'a>(&'a self, function: &'a str) -> Option<&'a HeldBy> {
        self.stacks_through(function).max_by_key(|stack| stack.bytes)?.held_by.first()
    }

    /// The remark with this key; the first, if there are several.
    #[must_use]
    pub fn remark(&self, key: &str) -> Option<&Remark> {
        self.remarks.iter().find(|remark| remark.key == key)
    }

    /// Whether there is a remark with this key.
    #[must_use]
    pub fn says(&self, key: &str) -> bool {
        self.remark(key).is_some()
    }

    /// The functions that called the allocator, for messages.
    #[must_use]
    pub fn callers(&self) -> Vec<String> {
        self.stacks
            .iter()
            .map(|stack| format!("{} {} in {}", stack.caller(), stack.bytes, stack.blocks))
            .collect()
    }
}

impl Losses {
    /// Whether nothing was lost that touches the figures.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        let Self {
            live_map_full,
            live_map_full_bytes,
            in_flight_lost,
            ring_full,
            no_walk_slot,
            no_thread_slot,
            stack_table_full,
            missed_frees,
            kernel_missed,
            mappings_full,
            mappings_full_bytes,
            names_given_up: _,
            children_not_traced: _,
            stacks_incomplete: _,
        } = self;
        [
            live_map_full,
            live_map_full_bytes,
            in_flight_lost,
            ring_full,
            no_walk_slot,
            no_thread_slot,
            stack_table_full,
            missed_frees,
            kernel_missed,
            mappings_full,
            mappings_full_bytes,
        ]
        .iter()
        .all(|&&lost| lost == 0)
    }
}
