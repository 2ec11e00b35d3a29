//! Adapter to traced processes: what /proc says of them, their mappings, starting and ending.

mod error;
mod files;
mod launch;
mod maps;
mod modules;
mod process;

pub use error::Error;
pub use launch::{Launch, Launched, Progress, User};
pub use modules::{Location, Module, Modules};
pub use process::{Exit, Process};
