//! The programs.

mod alloc;
mod libraries;
mod lifecycle;
mod stack;
