//! Calls of `bpf(2)` that go on when this process is killed.
//!
//! To put a breakpoint into a target's code, and to take it out, the kernel looks up a page, which it does not do for a
//! process that is about to die. An attach that SIGKILL interrupts fails in the middle, and what was put in already stays
//! ("failed to unregister, leaking uprobe"). So links are made by another process. It shares memory and descriptors with
//! this one: the link is this process's at once, and if this process dies meanwhile, the other one ends with the last
//! reference to every link, by itself. Signals to the terminal or the process group do not reach it. A signal to just that
//! process, or to a whole control group, does.

use std::{
    ffi::{c_int, c_void},
    io, ptr,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::{
    errno::Errno,
    sys::{
        signal::SigSet,
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use super::syscall;

/// Bytes of the other process's stack: it makes three system calls.
const STACK: usize = 64 * 1024;

/// What the other process is to do, and what came of it.
struct Call<'a> {
    command: bpf_cmd,
    attr: &'a mut bpf_attr,
    outcome: io::Result<i64>,
}

/// Calls `bpf(2)` in a process of its own.
///
/// # Errors
/// What the kernel answers; [`io::ErrorKind::Interrupted`] if somebody killed that process.
///
/// # Safety
/// As [`syscall::bpf`].
pub(super) unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i64> {
    let mut stack = vec![0u8; STACK];
    let mut call = Call { command, attr, outcome: Err(io::ErrorKind::Interrupted.into()) };
    let flags = libc::CLONE_VM | libc::CLONE_FILES;
    // No handler of this process's may run in the other one.
    let before = SigSet::all().thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK);
    // SAFETY: stack and call live until the other process has ended, which is waited for below. If this process dies
    // instead, its memory lives as long as the other one.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK).cast::<c_void>();
        libc::clone(make, top, flags, ptr::from_mut(&mut call).cast())
    };
    if pid > 0 {
        while waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    }
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    if pid < 0 {
        // No process can be had: as well as it goes.
        // SAFETY: by the contract above.
        return unsafe { syscall::bpf(call.command, call.attr) };
    }
    call.outcome
}

/// What the other process does. It ends as a whole process does: one thread that ends could still be sent a fatal signal
/// while it closes what it has.
extern "C" fn make(call: *mut c_void) -> c_int {
    // SAFETY: the caller's `Call`, which nobody else touches until this process has ended; its contract covers the call.
    unsafe {
        libc::setsid();
        let call = &mut *call.cast::<Call<'_>>();
        call.outcome = syscall::bpf(call.command, call.attr);
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::syscall::attributes, bpf, bpf_cmd};

    #[test]
    fn what_the_kernel_answers_comes_back() {
        let mut attr = attributes();
        attr.link_create.__bindgen_anon_1.prog_fd = u32::MAX;
        // SAFETY: no pointer is given.
        let apart = unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr) }.unwrap_err();
        // SAFETY: no pointer is given.
        let here = unsafe { super::syscall::bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr) }.unwrap_err();
        assert_eq!(apart.raw_os_error(), here.raw_os_error());
        assert!(here.raw_os_error().is_some());
    }
}
