//! Links that are made to the end when this process is killed.
//!
//! To put a breakpoint into a target's code, and to take it out, the kernel looks up a page, which it does not do for a
//! process that is about to die. An attach that SIGKILL interrupts fails in the middle, and what was put in already stays
//! ("failed to unregister, leaking uprobe"). So links are made by another process. It shares memory and descriptors with
//! this one: the link is this process's at once, and if this process dies meanwhile, the other one ends with the last
//! reference to every link, by itself. Signals to the terminal or the process group do not reach it. SIGKILL to just that
//! process does: then this one takes back what is left. SIGKILL to a whole control group in that very millisecond leaves a
//! breakpoint, until somebody traces a process with the same file.

use std::{
    ffi::{c_int, c_void},
    io,
    os::fd::{OwnedFd, RawFd},
    ptr,
};

use aya_obj::generated::{bpf_attr, bpf_cmd};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, SigmaskHow},
        wait::{WaitPidFlag, waitpid},
    },
    unistd::Pid,
};

use crate::bpf::shared::syscall;

/// Bytes of the other process's stack: it attaches a perf uprobe at most, by aya. Pages that it does not touch cost nothing.
const STACK: usize = 1024 * 1024;

/// What the other process is to do.
enum Order<'a> {
    /// `BPF_LINK_CREATE`.
    Create(&'a mut bpf_attr),
    /// Closing a descriptor.
    Close(RawFd),
    /// Anything else that makes links.
    Run(&'a mut dyn FnMut()),
}

/// The same, and what came of it.
struct Call<'a> {
    order: Order<'a>,
    outcome: io::Result<i64>,
}

/// Makes a link.
///
/// # Errors
/// What the kernel answers; [`io::ErrorKind::Interrupted`] if somebody killed the other process.
///
/// # Safety
/// As [`syscall::bpf`].
pub(super) unsafe fn create_link(attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let mut create = || carry_out(Order::Create(&mut *attr));
    let made = create();
    if matches!(&made, Err(error) if error.kind() == io::ErrorKind::Interrupted) {
        // What was left of it goes with the next link that has these sites.
        if let Ok(again) = create() {
            let _ = carry_out(Order::Close(again as RawFd));
        }
    }
    // SAFETY: it is the result of such a command.
    made.map(|fd| unsafe { syscall::owned(fd) })
}

/// Does something that makes links which are not made by a command alone. It must not panic.
///
/// # Errors
/// [`io::ErrorKind::Interrupted`] if somebody killed the other process; what it was doing is half done then.
pub(super) fn run<T>(task: impl FnOnce() -> T) -> io::Result<T> {
    let (mut task, mut outcome) = (Some(task), None);
    let mut once = || outcome = task.take().map(|task| task());
    carry_out(Order::Run(&mut once))?;
    outcome.ok_or_else(|| io::ErrorKind::Interrupted.into())
}

/// Has another process do it, and waits for that.
fn carry_out(order: Order<'_>) -> io::Result<i64> {
    let mut stack = vec![0u8; STACK];
    let mut call = Call { order, outcome: Err(io::ErrorKind::Interrupted.into()) };
    let flags = libc::CLONE_VM | libc::CLONE_FILES;
    // No handler of this process's may run in the other one.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK);
    // SAFETY: stack and call live until the other process has ended, which is waited for below. If this process dies
    // instead, its memory lives as long as the other one.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(STACK).cast::<c_void>();
        libc::clone(in_other_process, top, flags, ptr::from_mut(&mut call).cast())
    };
    if pid > 0 {
        while waitpid(Pid::from_raw(pid), Some(WaitPidFlag::__WALL)) == Err(Errno::EINTR) {}
    } else {
        // No process can be had: as well as it goes.
        call.outcome = call.order.carry_out();
    }
    if let Ok(before) = before {
        let _ = before.thread_set_mask();
    }
    call.outcome
}

impl Order<'_> {
    fn carry_out(&mut self) -> io::Result<i64> {
        match self {
            // SAFETY: by the contract of `create_link`.
            Self::Create(attr) => unsafe { syscall::bpf(bpf_cmd::BPF_LINK_CREATE, attr) },
            Self::Close(fd) => {
                // SAFETY: a descriptor that only `create_link` knows, which does not use it again.
                unsafe { libc::close(*fd) };
                Ok(0)
            }
            Self::Run(task) => {
                task();
                Ok(0)
            }
        }
    }
}

/// What the other process does. It ends as a whole process does: one thread that ends could still be sent a fatal signal
/// while it closes what it has.
extern "C" fn in_other_process(call: *mut c_void) -> c_int {
    // SAFETY: the caller's `Call`, which nobody else touches until this process has ended.
    unsafe {
        libc::setsid();
        let call = &mut *call.cast::<Call<'_>>();
        call.outcome = call.order.carry_out();
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use super::{bpf_cmd, create_link, syscall};
    use crate::bpf::shared::syscall::attributes;

    #[test]
    fn what_the_other_process_makes_is_here() {
        let made = super::run(|| (std::process::id(), std::fs::File::open("/dev/null"))).unwrap();
        assert_eq!(made.1.unwrap().metadata().unwrap().len(), 0, "its descriptor is this process's");
        let vector = super::run(|| vec![7_u8; 1 << 20]).unwrap();
        assert_eq!((vector.len(), vector.last()), (1 << 20, Some(&7)));
    }

    #[test]
    fn what_the_kernel_answers_comes_back() {
        let mut attr = attributes();
        attr.link_create.__bindgen_anon_1.prog_fd = u32::MAX;
        // SAFETY: no pointer is given.
        let apart = unsafe { create_link(&mut attr) }.unwrap_err();
        // SAFETY: no pointer is given.
        let here = unsafe { syscall::bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr) }.unwrap_err();
        assert_eq!(apart.raw_os_error(), here.raw_os_error());
        assert!(here.raw_os_error().is_some());
    }
}
