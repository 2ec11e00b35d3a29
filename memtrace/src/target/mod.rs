//! Adapter to traced processes: /proc, mappings, start and exit.

mod copies;
mod error;
mod files;
mod hold;
mod jit;
mod launch;
mod limits;
mod lines;
mod loader_hook;
mod maps;
pub mod memory;
mod modules;
mod oom_score;
mod process;
pub mod profilers;
mod ptrace;
pub mod relatives;
pub mod roots;
pub mod runtimes;
pub mod select;
mod stopped;
mod store;
pub mod text;
pub mod threads;
pub mod usage;
mod user;

pub use error::Error;
pub use hold::Hold;
pub use launch::{Launch, Launched, Progress};
pub use limits::{advice_on_files, raise_file_limit};
pub use modules::{Location, Module, Modules};
pub use oom_score::{protect_from_oom, stay_in_memory, without_protection};
pub use process::{Exit, Process};
pub use stopped::Stopped;
pub use store::{Deleted, FileStore};
pub use user::User;
