//! Floor 4: joins domain and adapters to what a command does.

mod output;
mod pipeline;
mod resolve;
mod session;

pub use output::{Closed, Output};
pub use pipeline::{Ending, Schedule, follow};
pub use session::{Options, Session};
