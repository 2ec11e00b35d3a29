//! Adapter to the kernel side: loads the programs, attaches them, reads what they counted.
//!
//! **Invariant**: the only user of aya. No other module sees a map, a program or a link.

mod apart;
mod attach;
mod btf;
mod calibrate;
mod config;
mod detach;
mod error;
mod events;
mod features;
mod holder;
mod kernel;
mod live;
mod load;
mod log;
mod losses;
mod mapped;
mod multi;
mod programs;
mod syscall;
mod time;
mod totals;
mod tracer;
mod unwind;

pub use config::Config;
pub use events::{BpfEvent, Events};
pub use features::{Feature, features};
pub use holder::InPlace;
pub use kernel::{CacheCounts, KernelConfig, KernelLosses, KernelStack, KernelTracer, Presence};
pub use log::BpfLog;
pub use time::MAX_AGE;
pub use tracer::Tracer;
