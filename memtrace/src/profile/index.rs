//! Where everything in a dictionary is, and what of it has been written.

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::types::{Function, FunctionId, LocationId, ModuleId, Stack, StackId, StringId};

/// Where everything is, and what was not written yet.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    pub(super) strings: FxHashMap<Arc<str>, StringId>,
    pub(super) functions: FxHashMap<Function, FunctionId>,
    pub(super) locations: FxHashMap<(ModuleId, u64, bool), LocationId>,
    pub(super) stacks: FxHashMap<Stack, StackId>,
    /// Places of stacks that are not used any more.
    pub(super) free: Vec<StackId>,
    /// Whether changes are remembered for a delta.
    pub(super) records: bool,
    pub(super) written: Written,
    pub(super) named: Vec<LocationId>,
    pub(super) changed: Vec<StackId>,
}

/// What of a dictionary has been written.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Written {
    pub(super) strings: usize,
    pub(super) modules: usize,
    pub(super) functions: usize,
    pub(super) locations: usize,
}
