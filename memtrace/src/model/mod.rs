//! Floor 1: the words of the domain. Plain data, no I/O, no clock, no aya.

mod cost;
mod elide;
pub mod glob;
mod kernel;
mod probe;
mod snapshot;
pub mod units;

pub use cost::{Overhead, Prices};
pub use elide::elide;
pub use kernel::{CacheRow, KERNEL_CODE, KernelReport, KernelRow, UNKNOWN_MEMORY};
pub use probe::{
    ArgLayout, ExitFrame, ExitResult, ExitSite, FunctionCode, LoaderHook, Mapping, ProbeSpec, Results, Role,
    Site,
};
pub use snapshot::{
    Age, AllocationEvent, Amount, Attachment, Event, Filter, Frame, LiveBlock, Losses, MappingRow, Mode,
    Snapshot, StackMethod, StackRow, TargetInfo, TargetKind, Uncertainty,
};
