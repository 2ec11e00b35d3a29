//! Taking probes out of targets, so that none stays whatever happens to this process meanwhile.
//!
//! When the last reference to a link goes, the kernel takes its breakpoints out of the target's code, in the context of the
//! process that gave it up. If a fatal signal is pending there it gives up halfway («failed to unregister, leaking uprobe»), and
//! a breakpoint stays. Not so in a process that is exiting by itself. So a child is forked, which has every link too; this
//! process closes its own; and then the child exits.

use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::{
    errno::Errno,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe},
};

use super::attach::Link;

/// Detaches in the opposite order of attaching, and waits until the kernel is done.
pub(super) fn detach(mut links: Vec<Link>) {
    links.sort_by_key(|link| link.stage);
    while let Some(stage) = links.last().map(|link| link.stage) {
        let first = links.partition_point(|link| link.stage < stage);
        let last: Vec<Link> = links.drain(first..).collect();
        match child() {
            Ok((child, exit)) => {
                // The child has them still.
                drop(last);
                drop(exit);
                while waitpid(child, None) == Err(Errno::EINTR) {}
            }
            Err(error) => {
                tracing::debug!("no child to detach with: {error}");
                drop(last);
            }
        }
    }
}

/// The same without waiting.
pub(super) fn detach_later(links: Vec<Link>) {
    if links.is_empty() {
        return;
    }
    // Where no thread can be had, the closure is dropped, and the links with it.
    let _ = std::thread::Builder::new().spawn(move || detach(links));
}

/// A child that exits when the descriptor is closed, by whatever.
fn child() -> Result<(Pid, OwnedFd), Errno> {
    let (wait, exit) = pipe()?;
    // SAFETY: the child only makes system calls.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok((child, exit)),
        ForkResult::Child => {
            let mut byte = 0u8;
            // SAFETY: descriptors of this process, one byte, and no return from the last call.
            unsafe {
                libc::close(exit.as_raw_fd());
                // A signal is no reason to exit before the other process has closed its links.
                while libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) < 0
                    && Errno::last() == Errno::EINTR
                {}
                libc::_exit(0)
            }
        }
    }
}
