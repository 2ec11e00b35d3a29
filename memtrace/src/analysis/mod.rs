//! Domain: judges what was counted. Pure: no I/O, no clock.

mod phantoms;
mod verdict;

pub use phantoms::{CacheEvidence, StackEvidence, share_out};
pub use verdict::{Evidence, judge};
