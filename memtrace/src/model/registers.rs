//! What a thread's registers hold.

/// The registers of a thread of another process, at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThreadRegisters {
    /// Its id, in this process's PID namespace.
    pub tid: u32,
    /// Its stack pointer, as of the same moment as `words`. `None`: not known, because the thread ran; `words` may then be
    /// of an earlier moment.
    pub sp: Option<u64>,
    /// Where its thread-local memory is (`fs_base`, `tpidr_el0`); `None` where that is not known or was never set.
    pub tls: Option<u64>,
    /// Everything that a register holds, in no order: general registers, stack pointer, instruction pointer, segment bases,
    /// and what of the vector registers can be read, in pieces of 8 bytes. Flags and zeros may be left out. Also where the
    /// alternate signal stack begins, if that is known: no other word may lead to it.
    pub words: Vec<u64>,
}
