//! Adapter to traced processes: /proc, mappings, start and exit.

mod error;
mod files;
mod launch;
mod limits;
mod maps;
mod modules;
mod process;
pub mod profilers;
#[cfg_attr(not(test), expect(dead_code, reason = "used by the leak check"))]
mod stopped;
mod store;
pub mod text;
pub mod threads;

pub use launch::{Launch, Launched, Progress, User};
pub use limits::{advice_on_files, raise_file_limit};
pub use modules::{Location, Module, Modules};
pub use process::{Exit, Process};
#[expect(unused_imports, reason = "used by the leak check")]
pub use stopped::Stopped;
pub use store::{FileStore, StoredFile};
