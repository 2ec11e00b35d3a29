//! Registers of a thread, as the task iterator's program writes them.

/// Words of the kernel's `struct pt_regs` (x86_64: 21) or `struct user_pt_regs` (aarch64: 34), arch/*/include/uapi/asm/ptrace.h.
pub const GENERAL_WORDS: usize = 34;

/// Words of the vector registers that are read: `xmm0` to `xmm15`.
pub const VECTOR_WORDS: usize = 32;

/// Words of a record in the iterator's file: first the vector registers, then a [`ThreadState`].
pub const RECORD_WORDS: usize = VECTOR_WORDS + size_of::<ThreadState>() / 8;

/// A thread, and its general registers where it last entered the kernel.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ThreadState {
    /// Its id, in the PID namespace of the reader.
    pub tid: u32,
    /// Its process, in that namespace.
    pub tgid: u32,
    /// Flags: the constants below.
    pub flags: u64,
    /// Where its thread-local memory is: x86_64 `fs_base`, aarch64 `tpidr_el0`. As of when it was last taken off its CPU.
    pub tls: u64,
    /// x86_64: `gs_base`.
    pub second_base: u64,
    /// Where its alternate signal stack begins (`sigaltstack(2)`); 0: it has none.
    pub signal_stack: u64,
    /// The registers, in the kernel's order; beyond those of the architecture zero.
    pub general: [u64; GENERAL_WORDS],
}
const _: () = assert!(size_of::<ThreadState>() == 312);

impl ThreadState {
    /// One that nothing is known of.
    pub const UNKNOWN: Self = Self {
        tid: 0,
        tgid: 0,
        flags: 0,
        tls: 0,
        second_base: 0,
        signal_stack: 0,
        general: [0; GENERAL_WORDS],
    };

    /// It is on a CPU, and was at the beginning or the end of reading: its registers are of an earlier moment if it is in
    /// user mode.
    pub const RUNNING: u64 = 1;
    /// It ran while it was read: what was read may be of two moments.
    pub const TORN: u64 = 2;
    /// It is ending, and never returns to user mode.
    pub const ENDING: u64 = 4;
    /// Its registers could not be read.
    pub const UNREADABLE: u64 = 8;
    /// The vector registers were read. Without it they are unknown, or all zero.
    pub const VECTOR: u64 = 16;
}
