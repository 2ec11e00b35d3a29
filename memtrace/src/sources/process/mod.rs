//! Traced processes.

mod attaching;
mod balance;
mod black_box;
mod census;
mod control;
mod counting;
mod curves;
mod exec;
mod following;
mod held;
mod holding;
mod inherited;
mod leaks;
mod mappings;
mod passage;
mod report;
mod scan;
mod session;
mod sites;
mod source;
mod stacks;
mod traced;
mod unseen;
mod untraced;
mod unwinding;
mod verdicts;
mod watch;
mod watchdog;

pub use counting::Counting;
pub use leaks::{LeakOptions, When};
pub(super) use report::ages;
pub use scan::{Progress, ScanOptions, Scanner};
pub use session::{Options, Session};
pub use sites::{Placement, find_allocator};
