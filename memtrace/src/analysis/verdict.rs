//! What the blocks of a stack do, told from when the living were allocated and how long the freed ones lived.
//!
//! A leak is made of blocks that are not freed once they have reached an age at which others of the same stack are: they
//! are *immortal*, and new ones are born all the time. (Chilimbi and Hauswirth, Low-overhead memory leak detection using
//! adaptive statistical profiling, ASPLOS 2004, take the time since the last access instead, which needs every access.) A
//! cache that turns over has no immortal blocks, or no new ones; one that fills has ever fewer new ones. Pure: no I/O, no
//! clock.

mod decide;
mod shape;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use decide::{Timing, doubt, judge};

use crate::{
    aggregate::{Ascent, Living, Times},
    profile::{Amount, Lifetimes, Trend},
};

/// What is known of a stack.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// Time since tracing began.
    pub now: Duration,
    /// Whether its process has ended: times are up to then.
    pub ended: bool,
    /// When the stack allocated.
    pub times: Times,
    /// Its live blocks.
    pub living: &'a Living,
    /// Blocks freed.
    pub freed: u64,
    /// How long they lived.
    pub lifetimes: Option<&'a Lifetimes>,
    /// Outstanding bytes.
    pub bytes: u64,
    /// Growth of these, unless only windows were watched.
    pub trend: Option<Trend>,
    /// How its bytes rose over its time.
    pub ascent: Option<Ascent>,
    /// Growth of the number of blocks of the whole process, earlier ones included, and frees of such, both per second.
    pub balance: Option<(Trend, f64)>,
    /// If there were gaps, the part of the time in which frees were seen, 0 to 1.
    pub windows: Option<f64>,
    /// Whether the table of live blocks was full, so that new ones may not be tracked.
    pub is_full: bool,
    /// What a leak check found lost, of how many blocks.
    pub lost: Option<(Amount, u64)>,
}
