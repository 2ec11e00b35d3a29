//! Kernel mode: an object of its own, with its own maps.

mod calibrate;
mod config;
mod counts;
mod examine;
mod feature;
mod freelists;
mod layout;
mod live;
mod load;
mod possible;
mod tracer;
mod types;

pub use config::KernelConfig;
pub use counts::{CacheCounts, KernelLosses, KernelStack};
pub(super) use feature::feature;
pub use live::Presence;
pub use tracer::KernelTracer;
