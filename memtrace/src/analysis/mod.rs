//! Domain: judges what was counted. Pure: no I/O, no clock.

pub mod balance;
pub mod early;
mod phantoms;
mod trend;
pub mod triage;
mod verdict;
pub mod when;

pub use phantoms::{CacheEvidence, StackEvidence, share_out};
pub use trend::Series;
pub use verdict::{Evidence, Timing, doubt, judge};
