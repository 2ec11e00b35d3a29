//! The programs.

mod alloc;
mod lifecycle;
