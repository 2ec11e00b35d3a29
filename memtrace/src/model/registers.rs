//! Registers of a thread.

/// What the registers of a thread that does not run hold: roots for a search of memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadRegisters {
    /// The thread.
    pub tid: u32,
    /// The stack pointer; `None` if the registers could not be read.
    pub sp: Option<u64>,
    /// The thread pointer, at which thread-local storage is; `None` if it could not be read.
    pub tls: Option<u64>,
    /// Every register as it is, those of vectors too: any of them may hold an address.
    pub words: Vec<u64>,
}
