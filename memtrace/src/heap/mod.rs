//! Which blocks of a process can still be reached: pure, over the [`Memory`] trait.
//!
//! A word that equals a block's address, or points into it, keeps the block in use. Words outside all blocks (data,
//! stacks, registers, memory that nobody recorded) are roots. Whatever cannot be reached from a root can never be used
//! or freed again: it is lost.
//!
//! A scan reads the memory once, in order ([`scan()`]), and keeps of each block only where it points to. Block addresses
//! are bits, one for 16 bytes of address space (or 8), in chunks that tables find; the number of a block is its rank among
//! the bits ([`Blocks`]). So the cost of a lookup does not depend on how many blocks there are, nothing is sorted, and a block
//! needs 3 bytes and its bits, one byte and 4 for each pointer in it.

mod blocks;
pub mod census;
mod directory;
mod edges;
mod filter;
mod frontier;
mod holders;
mod mark;
mod memory;
mod scan;
#[cfg(test)]
mod tests;
mod young;

pub use blocks::{Blocks, Collected};
pub use holders::{Held, Via};
pub use mark::{Holders, Marked, State};
pub use memory::{Between, Memory};
pub use scan::{How, Pending, Refused, scan};
pub use young::Young;
