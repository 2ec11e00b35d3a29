//! Traced processes.

mod control;
mod counting;
mod exec;
mod held;
mod holding;
mod passage;
mod report;
mod session;
mod sites;
mod source;
mod stacks;
mod traced;
mod untraced;
mod unwinding;
mod watch;
mod watchdog;

pub use counting::Counting;
pub(super) use report::ages;
pub use session::{Options, Session};
pub use sites::{Placement, Searched, find_allocator};
pub use unwinding::Progress;
