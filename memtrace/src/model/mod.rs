//! Floor 1: the words of the domain. Plain data, no I/O, no clock, no aya.

pub mod glob;
mod kernel;
mod probe;
mod snapshot;
pub mod units;

pub use kernel::{CacheRow, KernelReport, KernelRow};
pub use probe::{ArgLayout, LoaderHook, Mapping, ProbeSpec, Role, Site};
pub use snapshot::{
    Age, AllocationEvent, Amount, Event, Filter, Frame, LiveBlock, Losses, MappingRow, Mode, Snapshot,
    StackMethod, StackRow, TargetInfo, TargetKind,
};
