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
//! | 2 domain | [`analysis`], [`aggregate`], [`budget`] | pure: no I/O, no clock, no aya |
//! | 2 adapters | [`bpf`], [`target`], [`allocators`], [`elf`], [`kernel`], [`outfile`], [`symbolize`], [`unwind`] | the kernel, processes, files |
//! | 1 values | [`profile`], [`model`] | a report as a value; what to probe |
//! | 0 ABI | `memtrace-common` | what they share with the eBPF programs |

#![cfg_attr(
    not(test),
    warn(
        clippy::disallowed_methods,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::string_slice,
        clippy::unreachable
    )
)]

pub mod aggregate;
pub mod allocators;
pub mod analysis;
pub mod bpf;
pub mod budget;
pub mod cli;
pub mod elf;
pub mod kernel;
pub mod model;
pub mod outfile;
pub mod profile;
pub mod report;
pub mod saved;
pub mod session;
pub mod sources;
pub mod symbolize;
pub mod target;
pub mod unwind;
