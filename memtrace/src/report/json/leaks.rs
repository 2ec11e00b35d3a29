//! Leak checks in the schema.

use std::time::Duration;

use serde::Serialize;

use super::{
    Amount,
    values::{seconds, share},
};
use crate::profile::{self, Moment};

/// A leak check as a whole. Each block checked is in one of `reachable`, `possibly_lost` and `lost`.
#[derive(Serialize)]
pub(super) struct LeakCheck {
    /// When it was made: `running`, `stopped` (--stop) or `exit`.
    moment: &'static str,
    /// Seconds since tracing began at which it ended.
    #[serde(serialize_with = "seconds")]
    at_s: Duration,
    /// Scans of the process's memory: what is lost was unreachable in each.
    scans: u32,
    /// Bytes read by all scans.
    bytes_read: u64,
    /// Bytes not read by a scan: swapped out, or unreadable.
    bytes_skipped: u64,
    /// Time that the scans took, without the time between them.
    #[serde(serialize_with = "seconds")]
    seconds: Duration,
    /// CPU time of the agent for it.
    #[serde(serialize_with = "seconds")]
    cpu_s: Duration,
    /// Nothing leads to them: `directly_lost` and `indirectly_lost`.
    lost: Amount,
    /// Of those lost, the ones that no other lost block points to.
    directly_lost: Amount,
    /// Of those lost, the ones that another lost block points to.
    indirectly_lost: Amount,
    /// Reachable only through a pointer to the middle of a block.
    possibly_lost: Amount,
    /// Reachable by pointers to where blocks begin.
    reachable: Amount,
    /// Of those lost, the suppressed ones.
    suppressed: Amount,
    /// Blocks that were too young to be checked, or not watched all the time.
    undecided_blocks: u64,
    /// Blocks from before tracing began; null if they are not known.
    before: Option<Before>,
    /// Whether all memory that may hold pointers was read and the registers of all threads were known.
    complete: bool,
    /// The process that was checked; null for several together.
    pid: Option<u32>,
}

impl From<&profile::LeakCheck> for LeakCheck {
    fn from(check: &profile::LeakCheck) -> Self {
        let reached = &check.reached;
        Self {
            moment: match check.moment {
                Moment::Running => "running",
                Moment::Stopped => "stopped",
                Moment::AtExit => "exit",
            },
            at_s: check.at,
            scans: check.scans,
            bytes_read: check.read,
            bytes_skipped: check.skipped,
            seconds: check.took,
            cpu_s: check.cpu,
            lost: reached.lost().into(),
            directly_lost: reached.directly.into(),
            indirectly_lost: reached.indirectly.into(),
            possibly_lost: reached.possibly.into(),
            reachable: reached.reachable.into(),
            suppressed: reached.suppressed.into(),
            undecided_blocks: check.undecided,
            before: check.before.map(Before::from),
            complete: check.complete,
            pid: check.pid,
        }
    }
}

/// Blocks whose allocation was not traced: they are in none of the other sums.
#[derive(Serialize)]
struct Before {
    /// How many were looked at.
    checked_blocks: u64,
    /// What of them is lost; bytes as the allocator rounds sizes.
    lost: Amount,
    /// The sizes that have lost most, largest first.
    sizes: Vec<LostSize>,
}

/// Lost blocks of one size.
#[derive(Serialize)]
struct LostSize {
    size: u64,
    lost_blocks: u64,
}

impl From<profile::Before> for Before {
    fn from(before: profile::Before) -> Self {
        let sizes = before.sizes.into_iter().filter(|(_, blocks)| *blocks > 0);
        Self {
            checked_blocks: before.checked,
            lost: before.lost.into(),
            sizes: sizes.map(|(size, lost_blocks)| LostSize { size, lost_blocks }).collect(),
        }
    }
}

/// Who holds blocks of a stack: what the way to them begins with.
#[derive(Serialize)]
pub(super) struct Holder<'a> {
    /// `data`, `stack`, `tls`, `register`, `epoll`, `timer`, `heap` (memory from before the attach, or the allocator's) or
    /// `mapping`.
    root: &'static str,
    /// The variable, section, thread or mapping; null for the others.
    name: Option<&'a str>,
    /// The file that has the variable.
    module: Option<&'a str>,
    /// The thread.
    tid: Option<u32>,
    /// Pointers from there to a block, the root's included; the mean.
    steps: u32,
    /// The part of the blocks looked at that it holds, 0 to 1.
    #[serde(serialize_with = "share")]
    share: f64,
    /// Blocks looked at.
    looked_at: u32,
}

impl<'a> From<&'a profile::Holder> for Holder<'a> {
    fn from(holder: &'a profile::Holder) -> Self {
        let profile::Holder { root, steps, share, looked_at } = holder;
        Self {
            root: root.key(),
            name: root.name(),
            module: root.module(),
            tid: root.tid(),
            steps: *steps,
            share: *share,
            looked_at: *looked_at,
        }
    }
}

/// What the last leak check found among the blocks of a stack.
#[derive(Serialize)]
pub(super) struct Leaked {
    /// Blocks that were decided on.
    checked_blocks: u64,
    /// Bytes of blocks that nothing leads to.
    lost_bytes: u64,
    /// Their number.
    lost_blocks: u64,
    /// The part that other lost blocks point to.
    indirectly_lost_bytes: u64,
    /// Their number.
    indirectly_lost_blocks: u64,
    /// Bytes of blocks, of this stack or others, that are lost because these are.
    lost_through_bytes: u64,
    /// Bytes of blocks that only a pointer to the middle of a block leads to.
    possibly_lost_bytes: u64,
    /// Their number.
    possibly_lost_blocks: u64,
}

impl From<&profile::Leaked> for Leaked {
    fn from(leaked: &profile::Leaked) -> Self {
        Self {
            checked_blocks: leaked.checked,
            lost_bytes: leaked.lost.bytes,
            lost_blocks: leaked.lost.blocks,
            indirectly_lost_bytes: leaked.indirectly.bytes,
            indirectly_lost_blocks: leaked.indirectly.blocks,
            lost_through_bytes: leaked.through,
            possibly_lost_bytes: leaked.possibly.bytes,
            possibly_lost_blocks: leaked.possibly.blocks,
        }
    }
}
