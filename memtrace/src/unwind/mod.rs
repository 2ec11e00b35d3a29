//! Floor 2: tables that let the programs in the kernel walk a stack without frame pointers.
//!
//! A compiler describes for every instruction of a function how to find the caller's frame: call frame
//! information (CFI), in `.eh_frame` or `.debug_frame`. It is a small program per function (an FDE), far too much
//! for a probe to interpret. A [`Table`] is the same knowledge, computed once per file, as an array of [`Row`]s that a
//! binary search finds its way in: "from this address on, the caller's frame is 48 bytes above the stack pointer, and
//! its frame pointer was saved 16 bytes below that". What a row's fields mean is documented at [`Row`].
//!
//! # Call sites only
//! An address on a stack is a return address, so rows for prologues and epilogues are never asked for. A row stays if
//! its bytes can hold a call (see `calls`), or a system call, which is where most signals arrive: nine of ten
//! go. A walk must look up a return address *minus one*: that is inside the call, whatever follows it. Code between
//! functions that nothing describes has rows of its own ([`Row::NO_FDE`]), so that it does not get the rule of the
//! function before it; they stay under the same condition.
//!
//! Three kinds of return addresses follow no call: a signal trampoline, the start of a program or
//! thread, and the start of a `makecontext` coroutine. Their functions' rows begin one byte early.
//!
//! Calls are searched for byte by byte, so a constant may look like one and keep a row that nobody needs. The
//! reverse cannot happen.
//!
//! # Limits
//! Files belong to untrusted processes. Sections, entries, rows, the length of one entry and the time for a file are
//! bounded, and a file that breaks a bound or its format has no table: the caller counts it, and walks through it use
//! frame pointers. The constants are in `frames` and `build`, the time is the caller's ([`Limits`]).
//!
//! Code may span 4 GiB from the first executable segment, which is the table's base.

mod build;
mod cache;
mod calls;
mod error;
mod frames;
mod rules;

#[cfg(test)]
mod tests;

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use memtrace_common::Row;

pub use cache::{Built, Cache};
pub use error::Error;

use crate::elf::Image;

/// How long building may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// When to give up.
    pub deadline: Instant,
}

impl Limits {
    /// Give up after so much time from now on.
    #[must_use]
    pub fn within(time: Duration) -> Self {
        let now = Instant::now();
        Self { deadline: now.checked_add(time).unwrap_or(now) }
    }

    fn check(&self) -> Result<(), Error> {
        if Instant::now() < self.deadline { Ok(()) } else { Err(Error::TooSlow) }
    }
}

/// The rows of a file, ascending by address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    base: u64,
    rows: Vec<Row>,
}

impl Hash for Table {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.base.hash(state);
        for Row { pc, cfa, kind, fp } in &self.rows {
            (pc, cfa, kind, fp).hash(state);
        }
    }
}

impl Table {
    /// Computes the rows of a file.
    ///
    /// # Errors
    /// The file has no CFI, is malformed, or over a limit.
    pub fn build(image: &Image, limits: Limits) -> Result<Self, Error> {
        build::table(image, limits)
    }

    /// ELF virtual address that the rows' `pc` count from: where the first executable segment begins.
    #[must_use]
    pub fn base(&self) -> u64 {
        self.base
    }

    /// The rows. There is at least one, and the first one's `pc` is 0.
    #[must_use]
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The row of an ELF virtual address: of a return address minus one, or of an interrupted address.
    #[must_use]
    pub fn lookup(&self, address: u64) -> Option<Row> {
        let pc = u32::try_from(address.checked_sub(self.base)?).ok()?;
        let after = self.rows.partition_point(|row| row.pc <= pc);
        self.rows.get(after.checked_sub(1)?).copied()
    }
}
