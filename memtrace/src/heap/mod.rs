//! Which blocks of a process can still be reached: pure, over the [`Memory`] trait.
//!
//! A word that equals a block's address, or points into it, keeps the block in use. Words outside all blocks (data,
//! stacks, registers, memory that nobody recorded) are roots. Whatever cannot be reached from a root can never be used
//! or freed again: it is lost.
//!
//! A scan reads the memory once, in order ([`scan()`]), and keeps of each block only where it points to. Block addresses
//! are bits, one for 8 bytes of address space, in chunks of 64 KiB; the number of a block is its rank among the bits
//! ([`Blocks`]). So a lookup costs about four loads however many blocks there are, nothing is sorted, and a block needs 9
//! bytes and 4 for each pointer in it.

mod blocks;
pub mod census;
mod collect;
mod edges;
mod holders;
mod mark;
mod memory;
mod scan;
#[cfg(test)]
mod tests;

pub use blocks::{Blocks, Starts};
pub use collect::Collected;
pub use holders::{Held, Via};
pub use mark::{Marked, State};
pub use memory::{Between, Memory};
pub use scan::{How, Refused, scan};
