//! Floor 4: where reports come from: traced processes, the kernel, a file of saved reports. Each is a
//! [`Source`](crate::session::Source), and joins domain and adapters.

pub mod kernel;
pub mod process;
pub mod saved;
pub mod triage;
pub mod waiting;

mod listed;
mod marks;
