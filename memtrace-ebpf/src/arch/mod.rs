//! What differs between architectures: registers, where a call's return address is, frames.

#[cfg(bpf_target_arch = "aarch64")]
mod aarch64;
#[cfg(bpf_target_arch = "aarch64")]
pub(crate) use aarch64::{
    Registers, SIGNAL, code_address, entry_sp, frame, frame_by_frame_pointer, return_slot,
};
#[cfg(bpf_target_arch = "x86_64")]
mod x86_64;
#[cfg(bpf_target_arch = "x86_64")]
pub(crate) use x86_64::{
    Registers, SIGNAL, code_address, entry_sp, frame, frame_by_frame_pointer, return_slot,
};

/// Where a frame ends, and what it keeps of its caller.
pub(crate) struct Frame {
    /// Its canonical frame address (CFA): the caller's stack pointer.
    pub(crate) cfa: u64,
    /// Where the return address is saved.
    pub(crate) return_address: u64,
    /// Where the caller's frame pointer is saved; 0: it is this frame's.
    pub(crate) frame_pointer: u64,
}

/// Where a signal handler's return code, which runs with the stack pointer at the signal's frame, finds the interrupted
/// registers: offsets from there.
pub(crate) struct SignalFrame {
    /// The frame pointer.
    pub(crate) frame_pointer: u64,
    /// The stack pointer.
    pub(crate) sp: u64,
    /// The program counter.
    pub(crate) pc: u64,
    /// The register that a call leaves the return address in, on architectures that have one.
    pub(crate) link: Option<u64>,
}
