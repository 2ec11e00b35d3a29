//! Finds where a probe in a function costs least and still sees what it needs.
//!
//! A uprobe on an instruction that the kernel emulates costs one trap; on any other the kernel steps a copy
//! out of line, a second trap: some twenty times the time in a virtual machine. So the probe goes to the
//! first emulated instruction of the function's beginning that every call passes exactly once, with the
//! arguments and, where the return is probed too, the stack pointer as they were at the entry.

mod aarch64;
mod x86_64;

use crate::model::{Role, Site};

use super::Machine;

pub(super) use x86_64::is_emulated;

/// How many bytes of a function to pass to [`choose`]. A jump back to the site from beyond them is not seen;
/// no compiler makes one from so far.
pub const MAX_FUNCTION: u64 = 64 << 10;

/// Chooses the site in a function that begins with `code` and is `size` bytes long by its symbol.
///
/// `code` is the whole function, its first [`MAX_FUNCTION`] bytes, or a few bytes at least where `size` is 0
/// (unknown). Whenever the function is not understood the site is its first byte.
#[must_use]
pub fn choose(machine: Machine, code: &[u8], size: u64, role: Role) -> Site {
    match machine {
        Machine::X86_64 => x86_64::choose(code, size, role),
        Machine::Aarch64 => aarch64::choose(code),
    }
}
