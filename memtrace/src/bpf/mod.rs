//! Adapter to the kernel side: loads the programs, attaches them, reads what they counted.
//!
//! **Invariant**: the only user of aya. No other module sees a map, a program or a link.

mod features;
mod kernel;
mod process;
#[cfg_attr(not(test), expect(dead_code, reason = "used by the leak check"))]
mod registers;
mod shared;

pub use features::features;
pub use kernel::{CacheCounts, KernelConfig, KernelLosses, KernelStack, KernelTracer, Presence};
pub use process::{Config, InPlace, Tracer};
#[expect(unused_imports, reason = "used by the leak check")]
pub use registers::RegisterReader;
pub use shared::{
    events::{BpfEvent, Events},
    feature::Feature,
    log::BpfLog,
    time::MAX_AGE,
};
