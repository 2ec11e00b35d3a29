//! The memory of a live target that may hold pointers, read while it runs. Nothing is faulted in: only pages that
//! are present are read.

mod kernel_held;
mod pages;
mod reader;
mod regions;
mod resident;
#[cfg(test)]
mod tests;

pub use kernel_held::kernel_held;
pub use reader::Reader;
pub use regions::{Kind, Region, regions};
pub use resident::resident;
