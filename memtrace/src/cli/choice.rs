//! Options for which allocators and functions are probed.

use crate::{
    allocators::{Choice, parse_allocating, parse_freeing, parse_prefix},
    model::Role,
};

/// Options for which allocators and functions are probed.
#[derive(Clone, Debug, Default, clap::Args)]
pub(super) struct ChoiceArgs {
    /// Trace only allocators with this name (`*` and `?` as in file names); `memtrace check --pid PID` lists those of a
    /// process
    #[arg(long, value_name = "NAME")]
    allocator: Vec<String>,
    /// Trace only what this file of the process defines: a path, a file name, or the name of a library (`c`, `*jemalloc*`)
    #[arg(long, value_name = "FILE")]
    object: Vec<String>,
    /// Also trace PREFIXmalloc, PREFIXfree and their like. Prefixed builds of jemalloc are found without
    #[arg(long, value_name = "PREFIX", value_parser = parse_prefix)]
    symbol_prefix: Vec<String>,
    /// Also trace this function as one that allocates, such as that of a pool: `pool_get`, `pool_get:size=2`. The size is
    /// the first argument unless said otherwise; `count=N`: a number of elements; `old=N`: a block that is given up, as in
    /// realloc; `out=N`: where the block's address is stored. Names are symbols: mangled, for C++
    #[arg(long, value_name = "FUNC[:size=ARG]", value_parser = parse_allocating, requires = "free")]
    alloc: Vec<(String, Role)>,
    /// Also trace this function as one that frees the block in its first argument
    #[arg(long, value_name = "FUNC", value_parser = parse_freeing, requires = "alloc")]
    free: Vec<(String, Role)>,
}

impl ChoiceArgs {
    /// What to probe.
    pub(super) fn choice(&self) -> Choice {
        Choice {
            allocators: self.allocator.clone(),
            objects: self.object.clone(),
            prefixes: self.symbol_prefix.clone(),
            functions: self.alloc.iter().chain(&self.free).cloned().collect(),
            only_named: false,
        }
    }
}
