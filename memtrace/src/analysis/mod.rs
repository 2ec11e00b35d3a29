//! Domain: judges what was counted. Pure: no I/O, no clock.

mod phantoms;

pub use phantoms::{CacheEvidence, StackEvidence, share_out};
