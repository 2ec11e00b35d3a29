//! Floor 1: the words of the domain. Plain data, no I/O, no clock, no aya.

mod probe;
mod snapshot;
pub mod units;

pub use probe::{ArgLayout, LoaderHook, Mapping, ProbeSpec, Role, Site};
pub use snapshot::{
    Age, AllocationEvent, Amount, Event, Filter, Frame, LiveBlock, Losses, MappingRow, Mode, Snapshot,
    StackMethod, StackRow, TargetInfo, TargetKind,
};
