//! Floor 4: joins domain and adapters to what a command does.

mod control;
mod counting;
mod draft;
mod exec;
mod followed;
mod held;
mod holding;
mod kernel;
mod output;
mod passage;
mod pipeline;
mod queue;
mod resolve;
mod session;
mod signals;
mod sites;
mod snapshot;
mod stacks;
mod untraced;
mod unwinding;
mod watch;
mod watchdog;

pub use control::Next;
pub use counting::Counting;
pub use draft::Draft;
pub use followed::Followed;
pub use kernel::{By, KernelOptions, KernelSession};
pub use output::{Closed, Output, write_whole};
pub use pipeline::{Ending, Schedule, follow};
pub use session::{Options, Session};
pub use signals::interrupted;
pub use sites::{Placement, Searched, find_allocator};
pub use unwinding::Progress;
