//! `x86_64`, System V ABI.

use core::ffi::c_void;

use aya_ebpf::bindings::pt_regs;

/// The registers a probe sees.
pub(crate) struct Registers(*const pt_regs);

impl Registers {
    /// Registers of a uprobe's context.
    ///
    /// # Safety
    /// `context` is what the kernel passed to a kprobe-type program.
    #[inline(always)]
    pub(crate) unsafe fn new(context: *mut c_void) -> Self {
        Self(context.cast())
    }

    /// The first four integer arguments.
    #[inline(always)]
    pub(crate) fn arguments(&self) -> [u64; 4] {
        // SAFETY: the context is valid for the program's run (see `new`).
        unsafe { [(*self.0).rdi, (*self.0).rsi, (*self.0).rdx, (*self.0).rcx] }
    }

    /// The value a function returns.
    #[inline(always)]
    pub(crate) fn result(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rax }
    }

    /// The frame pointer.
    #[inline(always)]
    pub(crate) fn frame_pointer(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rbp }
    }

    /// Where the return address lies, before the function has moved the stack pointer.
    #[inline(always)]
    pub(crate) fn return_slot(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (*self.0).rsp }
    }

    /// The canonical frame address at entry: `call` has pushed 8 bytes.
    #[inline(always)]
    pub(crate) fn entry_cfa(&self) -> u64 {
        self.return_slot() + 8
    }

    /// The canonical frame address after the return: `ret` has popped them.
    #[inline(always)]
    pub(crate) fn return_cfa(&self) -> u64 {
        self.return_slot()
    }
}
