//! memtrace finds memory leaks in live processes: eBPF programs count every allocation and free where they
//! happen, and the agent names the code that made what is left.
//!
//! The floors of this crate. Imports point down only, and neighbours do not know each other, with the exceptions in
//! `xtask/src/tidy/floors.rs`:
//!
//! | floor | modules | |
//! | --- | --- | --- |
//! | 5 edge | [`cli`] | arguments, exit status |
//! | 4 app | [`sources`], [`session`] | sources of reports: processes, the kernel, a file; the loop that follows one |
//! | 3 output | [`report`], [`saved`] | a file per format; the container of saved reports |
//! | 2 domain | [`analysis`], [`aggregate`], [`budget`], [`heap`] | pure: no I/O, no clock, no aya |
//! | 2 adapters | [`bpf`], [`target`], [`allocators`], [`elf`], [`kernel`], [`outfile`], [`symbolize`], [`unwind`] | the kernel, processes, files |
//! | 1 values | [`profile`], [`model`] | a report as a value; what to probe |
//! | 0 ABI | `memtrace-common` | what they share with the eBPF programs |

#![expect(
    unreachable_pub,
    reason = "`pub` is what a module offers to others; nothing outside the crate sees it"
)]
#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::indexing_slicing,
        clippy::missing_docs_in_private_items,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

mod aggregate;
mod allocators;
mod analysis;
mod bpf;
mod budget;
pub mod cli;
mod elf;
mod heap;
mod kernel;
mod model;
mod outfile;
mod profile;
mod report;
mod saved;
mod session;
mod sources;
mod symbolize;
mod target;
mod unwind;

/// What the benchmarks, the examples and the comparison with other unwinders use. Everything else is private, so that the
/// compiler finds code that nothing uses.
pub mod internals {
    pub use crate::{
        aggregate::{Aggregate, Estimate, Totals, join},
        bpf::{BpfEvent, Config, Events},
        elf::Image,
        profile::{
            Age, Amount, Detail, Dictionary, Filter, Kernel, Losses, Marks, Profile, Reason, Row, Selection,
            Subject,
        },
        sources::process::{Options, Session},
        target::{Launch, Process, Progress},
        unwind::{Limits, Table},
    };
}
