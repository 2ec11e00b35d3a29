//! memtrace's kernel side: counts allocations where they happen.
//!
//! - `probes/`: the programs, one topic a file; thin entry points.
//! - `record`: what an entry, a return and a free do to the counts.
//! - `mapping`: memory that a target maps itself.
//! - `live`, `stacks`, `thread` and `calls`: the tables of blocks, of stacks, and of calls in flight.
//! - `walk/`: stacks.
//! - `sampling`, `work`: which allocations are counted, and what counting them costs.
//! - `miss`: asking the agent to look at a target's mappings again.
//! - `base`, `shared`: what the other objects need too.
//! - `maps`, `config`: every map, every load-time constant. `types`: the values that a walk works on.
#![feature(core_intrinsics, asm_experimental_arch)]
#![allow(internal_features, reason = "BPF has no compare-and-swap in core::sync::atomic, only as intrinsics")]
#![no_std]
#![no_main]

mod arch;
mod atomic;
mod base;
mod calls;
mod config;
mod events;
mod exits;
mod live;
mod mapping;
mod maps;
mod miss;
mod oracle;
mod probes;
mod record;
mod sampling;
mod shared;
mod stacks;
mod thread;
mod types;
mod walk;
mod work;
