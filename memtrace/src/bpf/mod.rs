//! Adapter to the kernel side: loads the programs, attaches them, reads what they counted.
//!
//! **Invariant**: the only user of aya. No other module sees a map, a program or a link.

mod features;
mod kernel;
mod process;
mod registers;
mod shared;

pub use features::features;
pub use kernel::{CacheCounts, KernelConfig, KernelLosses, KernelStack, KernelTracer, Presence};
pub use process::{Config, InPlace, Live, LiveReader, Tracer};
pub use registers::RegisterReader;
pub use shared::{
    events::{BpfEvent, Events},
    feature::Feature,
    log::BpfLog,
    time::MAX_AGE,
};
