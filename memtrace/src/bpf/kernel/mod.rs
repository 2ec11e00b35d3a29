//! Kernel mode: an object of its own, with its own maps.

mod calibrate;
mod feature;
mod layout;
mod live;
mod load;
mod tracer;
mod types;

pub(super) use feature::feature;
pub use tracer::{CacheCounts, KernelConfig, KernelLosses, KernelStack, KernelTracer};
