//! Harness for suites that trace real processes with the real agent.
//!
//! - `binaries`: where the agent and the fixture programs are.
//! - `privileges`: whether this machine lets the agent trace; otherwise a test is skipped.
//! - `running`: processes with time limits, their lines read as they come.
//! - `agent`: the agent at work, from attaching to its last report.
//! - `report`, `balance`, `leak_check`, `lifetime`, `mappings`, `marks`, `heap`, `triage`: its JSON.
//! - `fixture`: the handshake between a fixture program and its test.
//! - `stages`: a program whose names and lines are known, for what is done to its files.
//! - `compiler`, `elf`: programs that cargo cannot build: in C, or a few bytes of machine code.
//! - `holder`: a program that keeps addresses in registers only.
//! - `saved`: sessions that the agent saves, and their files taken apart.
//! - `cgroup`: a cgroup that is gone with its value.
//! - `proc`: what /proc says of a process.
//! - `tmux`: a terminal that a program draws on.
//! - `browser`: Chromium, for pages and pictures.
//!
//! A test fails by panicking, so the harness panics too: with what it waited for and what came instead.

mod agent;
mod balance;
mod binaries;
pub mod browser;
mod cgroup;
mod compiler;
mod elf;
pub mod fixture;
mod heap;
mod holder;
mod leak_check;
mod lifetime;
mod mappings;
mod marks;
mod privileges;
pub mod proc;
mod report;
mod running;
pub mod saved;
pub mod stages;
mod tmux;
mod triage;

pub use agent::{Agent, assert_refused, assert_usage, memtrace, unprivileged};
pub use balance::Balance;
pub use binaries::{agent_path, fixture_path};
pub use cgroup::Cgroup;
pub use compiler::{CSource, compile, run_tool, shared_directory};
pub use elf::{compressed_zeros, damage_section, mark_compressed, spinning_elf32, spinning_elf64};
pub use heap::{Class, Grown, Growth, Heap, HeapReport, Held, Kept};
pub use holder::Holder;
pub use leak_check::{Before, HeldBy, LeakCheck, Lost, LostSize};
pub use lifetime::Lifetime;
pub use marks::{Mark, Span};
pub use privileges::{can_trace, remark};
pub use report::{Cache, Frame, Kernel, Losses, Remark, Report, Stack, Totals, TraceLine};
pub use running::{Finished, Running, limit};
pub use tmux::Tmux;
pub use triage::{KilledProcess, Pattern, Place, Triage, TriageReport};
