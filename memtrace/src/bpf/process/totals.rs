//! Reading the table of stacks.

use std::time::Duration;

use memtrace_common::{BLOCK_UNIT, StackSlot};

use crate::bpf::shared::{mapped::Mapped, time};
use crate::profile::Amount;

/// A stack's totals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackTotals {
    /// Its slot.
    pub slot: u32,
    /// Its identity; 0 for what did not get a slot of its own.
    pub hash: u64,
    /// Target and generation, see [`memtrace_common::Target::id`].
    pub target: u32,
    /// Allocated since the start.
    pub allocated: Amount,
    /// Freed of that.
    pub freed: Amount,
    /// The time since the start of tracing at which the stack last held nothing: no live block is older.
    pub since: Duration,
    /// Whether nothing was freed since then, so that the oldest block is exactly that old.
    pub since_exact: bool,
}

/// Every stack with allocations; `now`: the time since the start of tracing.
pub(super) fn read(stacks: &Mapped<StackSlot>, now: Duration) -> impl Iterator<Item = StackTotals> {
    (0..stacks.len()).filter_map(move |index| {
        let pointer = stacks.pointer(index)?;
        // Most slots are free.
        // SAFETY: points to a mapped slot.
        if unsafe { (&raw const (*pointer).allocated_blocks).read_volatile() } == 0 {
            return None;
        }
        // Freed is read before allocated: the difference is never negative.
        // SAFETY: as above.
        let (freed_blocks, freed_bytes) = unsafe {
            (
                (&raw const (*pointer).freed_blocks).read_volatile(),
                (&raw const (*pointer).freed_bytes).read_volatile(),
            )
        };
        let slot = stacks.get(index)?;
        Some(StackTotals {
            slot: index as u32,
            hash: slot.hash,
            target: slot.target,
            allocated: amount(slot.allocated_bytes, slot.allocated_blocks),
            freed: amount(freed_bytes, freed_blocks),
            since: time::at(slot.since, now),
            since_exact: slot.since_freed == freed_blocks,
        })
    })
}

/// Sampled blocks may represent fractions of blocks.
fn amount(bytes: u64, units: u64) -> Amount {
    Amount { bytes, blocks: (units + BLOCK_UNIT / 2) / BLOCK_UNIT }
}
