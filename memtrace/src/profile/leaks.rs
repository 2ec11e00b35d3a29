//! What a leak check found: blocks that nothing in the process points to.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Amount;

/// What a leak check found among the blocks of one stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaked {
    /// Blocks that were decided on; the others were too young, or not watched all the time.
    pub checked: u64,
    /// What can no longer be reached from any root: it can never be used or freed again.
    pub lost: Amount,
    /// The part of it that other lost blocks still point to.
    pub indirectly: Amount,
    /// Bytes, of whatever stack, that are lost because the other part is.
    pub through: u64,
    /// What can be reached only through a pointer to the middle of a block.
    #[serde(default)]
    pub possibly: Amount,
}

impl Leaked {
    /// As far as it is outstanding: a filter may leave blocks out.
    #[must_use]
    pub fn within(self, outstanding: Amount) -> Self {
        let least = |amount: Amount| Amount {
            bytes: amount.bytes.min(outstanding.bytes),
            blocks: amount.blocks.min(outstanding.blocks),
        };
        let Self { checked, lost, indirectly, through, possibly } = self;
        let checked = checked.min(outstanding.blocks);
        Self { checked, lost: least(lost), indirectly: least(indirectly), through, possibly: least(possibly) }
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            checked: self.checked.saturating_add(other.checked),
            lost: self.lost.plus(other.lost),
            indirectly: self.indirectly.plus(other.indirectly),
            through: self.through.saturating_add(other.through),
            possibly: self.possibly.plus(other.possibly),
        }
    }

    /// Bytes whose loss is this stack's: its own that no other lost block points to, and what is lost through them.
    #[must_use]
    pub fn blame(&self) -> u64 {
        self.lost.bytes.saturating_sub(self.indirectly.bytes).saturating_add(self.through)
    }
}

/// The blocks checked, by how they can be reached: each is in one of these.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// From a root, by pointers to where blocks begin.
    pub reachable: Amount,
    /// From a root, but only through a pointer to the middle of a block.
    pub possibly: Amount,
    /// Lost, and no other lost block points to it.
    pub directly: Amount,
    /// Lost, and another lost block points to it.
    pub indirectly: Amount,
    /// Lost, and suppressed.
    pub suppressed: Amount,
}

impl Reached {
    /// Lost, suppressed or not.
    #[must_use]
    pub fn lost(&self) -> Amount {
        self.directly.plus(self.indirectly)
    }

    /// Everything that was checked.
    #[must_use]
    pub fn all(&self) -> Amount {
        self.lost().plus(self.possibly).plus(self.reachable)
    }

    /// The sum of two.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            reachable: self.reachable.plus(other.reachable),
            possibly: self.possibly.plus(other.possibly),
            directly: self.directly.plus(other.directly),
            indirectly: self.indirectly.plus(other.indirectly),
            suppressed: self.suppressed.plus(other.suppressed),
        }
    }
}

/// When a leak check looked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// While the process ran: what is lost was unreachable in several scans.
    #[default]
    Running,
    /// While it was stopped (`--stop`).
    Stopped,
    /// At its end.
    AtExit,
}

/// Sizes of lost blocks that are listed.
pub const LOST_SIZES: usize = 3;

/// Blocks that the allocator has in use and whose allocation was not traced: they are from before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// How many were looked at.
    pub checked: u64,
    /// Those that are lost, with the sizes that the allocator has rounded them to.
    pub lost: Amount,
    /// Sizes of which most bytes are lost, and how many blocks are; unused places are zero.
    pub sizes: [(u64, u64); LOST_SIZES],
}

impl Before {
    /// Of lost blocks by size.
    #[must_use]
    pub fn new(checked: u64, lost: impl IntoIterator<Item = (u64, u64)>) -> Self {
        let mut sizes: Vec<(u64, u64)> = Vec::new();
        for (size, blocks) in lost.into_iter().filter(|(_, blocks)| *blocks > 0) {
            match sizes.iter_mut().find(|(known, _)| *known == size) {
                Some((_, sum)) => *sum += blocks,
                None => sizes.push((size, blocks)),
            }
        }
        let bytes = |(size, blocks): &(u64, u64)| size.saturating_mul(*blocks);
        sizes.sort_unstable_by_key(|size| (std::cmp::Reverse(bytes(size)), size.0));
        let lost = sizes
            .iter()
            .fold(Amount::default(), |sum, size| sum.plus(Amount { bytes: bytes(size), blocks: size.1 }));
        let mut most = [(0, 0); LOST_SIZES];
        most.iter_mut().zip(sizes).for_each(|(place, size)| *place = size);
        Self { checked, lost, sizes: most }
    }

    /// Of two processes together: the sizes listed are of those listed.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let Self { sizes, .. } = Self::new(0, self.sizes.into_iter().chain(other.sizes));
        Self { checked: self.checked.saturating_add(other.checked), lost: self.lost.plus(other.lost), sizes }
    }
}

/// A leak check as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeakCheck {
    /// When.
    pub moment: Moment,
    /// Time since tracing began at which it ended.
    pub at: Duration,
    /// Scans of the process's memory.
    pub scans: u32,
    /// Bytes read by all scans.
    pub read: u64,
    /// Bytes of pages that a scan did not read, because they were swapped out or could not be read.
    pub skipped: u64,
    /// Time that the scans took, without the time between them.
    pub took: Duration,
    /// CPU time of the agent for it.
    pub cpu: Duration,
    /// The blocks checked.
    pub reached: Reached,
    /// Blocks that were too young to be checked, or not watched all the time.
    pub undecided: u64,
    /// Blocks from before tracing began, which are not in `reached`; `None` if they are not known.
    #[serde(default)]
    pub before: Option<Before>,
    /// Whether everything that may hold a pointer was looked at: no page was skipped, and the registers of every thread were
    /// known.
    pub complete: bool,
    /// The process; `None` for several together.
    #[serde(default)]
    pub pid: Option<u32>,
}

impl LeakCheck {
    /// Of two processes together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            moment: self.moment,
            at: self.at.max(other.at),
            scans: self.scans.max(other.scans),
            read: self.read.saturating_add(other.read),
            skipped: self.skipped.saturating_add(other.skipped),
            took: self.took.saturating_add(other.took),
            cpu: self.cpu.saturating_add(other.cpu),
            reached: self.reached.plus(other.reached),
            undecided: self.undecided.saturating_add(other.undecided),
            before: match (self.before, other.before) {
                (Some(one), Some(other)) => Some(one.plus(other)),
                (one, other) => one.or(other),
            },
            complete: self.complete && other.complete,
            pid: self.pid.filter(|_| self.pid == other.pid),
        }
    }
}
