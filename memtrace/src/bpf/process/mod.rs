//! Process mode: programs behind probes in processes.

mod apart;
mod attach;
mod calibrate;
mod config;
mod detach;
mod holder;
mod holders;
mod idle;
mod live;
mod load;
mod losses;
mod multi;
mod programs;
mod sweep;
mod totals;
mod tracer;
mod unwind;

pub(super) use calibrate::file_offset;
pub use config::Config;
pub use holder::InPlace;
pub use live::{Live, LiveReader};
pub use programs::Method;
pub use tracer::Tracer;
