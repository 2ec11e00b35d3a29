//! memtrace finds memory leaks in live processes: eBPF programs count every allocation and free where they
//! happen, and the agent names the code that made what is left.
//!
//! The floors of this crate; imports point down only, and neighbours on floor 2 do not know each other:
//!
//! | floor | modules | |
//! | --- | --- | --- |
//! | 5 edge | [`cli`] | arguments, exit status |
//! | 4 app | [`app`] | a session: programs, targets, the loop from events to reports |
//! | 3 output | [`report`], [`saved`] | a file per format; the container of saved sessions |
//! | 2 domain | [`analysis`], [`aggregate`], [`budget`] | pure: no I/O, no clock, no aya |
//! | 2 adapters | [`bpf`], [`target`], [`allocators`], [`elf`], [`kernel`], [`outfile`], [`symbolize`], [`unwind`] | the kernel, processes, files |
//! | 1 model | [`model`] | the words they share |
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
