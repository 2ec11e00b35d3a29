//! Floor 1: types for probing. Plain data, no I/O, no clock, no aya.

pub mod cgroup;
mod cost;
pub mod glob;
mod probe;
mod registers;

pub use cost::Prices;
pub use probe::{
    ArgLayout, ExitFrame, ExitResult, ExitSite, FunctionCode, LoaderHook, Mapping, ProbeSpec, Results, Role,
    Site,
};
pub use registers::ThreadRegisters;
