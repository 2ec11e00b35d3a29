//! Taking probes out of targets, so that none stays whatever happens to this process meanwhile.
//!
//! When the last reference to a link goes, the kernel takes its breakpoints out of the target's code, in the context of
//! the process that gave it up. If a fatal signal is pending there it gives up halfway («failed to unregister, leaking
//! uprobe»), and a breakpoint stays. Not so in a process that is exiting by itself. So a child is forked, which has
//! every link too; this process closes its own; and then the child exits.
//!
//! The child is told to by a byte, or by the end of the pipe if this process is killed before. A child of the same moment
//! would have the pipe's other end too, and each could wait for the other's exit: so there is one at a time.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe2, write},
};

use super::attach::Link;

/// Held from a child's fork to its end.
static ONE_CHILD: Mutex<()> = Mutex::new(());

/// Links that a thread is to detach.
struct Later {
    links: Vec<Link>,
    is_running: bool,
}

static LATER: Mutex<Later> = Mutex::new(Later { links: Vec::new(), is_running: false });

/// Detaches in the opposite order of attaching, and waits until the kernel is done.
pub(super) fn detach(mut links: Vec<Link>) {
    links.sort_by_key(|link| link.stage);
    while let Some(stage) = links.last().map(|link| link.stage) {
        let first = links.partition_point(|link| link.stage < stage);
        let last: Vec<Link> = links.drain(first..).collect();
        let _turn = lock(&ONE_CHILD);
        match child() {
            Ok((child, exit)) => {
                // The child has them still.
                drop(last);
                // Where the byte cannot be written the end of the pipe does the same.
                let _ = write(&exit, &[0]);
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

/// The same without waiting: by one thread, whatever comes while it is at work.
pub(super) fn detach_later(links: Vec<Link>) {
    if links.is_empty() {
        return;
    }
    let mut later = lock(&LATER);
    later.links.extend(links);
    if !later.is_running {
        later.is_running = std::thread::Builder::new().spawn(detach_pending).is_ok();
        if !later.is_running {
            later.links.clear();
        }
    }
}

/// Detaches what is waiting for it.
fn detach_pending() {
    loop {
        let links = {
            let mut later = lock(&LATER);
            later.is_running = !later.links.is_empty();
            std::mem::take(&mut later.links)
        };
        if links.is_empty() {
            return;
        }
        detach(links);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A child that exits when the descriptor is written to, or closed by whatever.
fn child() -> Result<(Pid, OwnedFd), Errno> {
    let (wait, exit) = pipe2(OFlag::O_CLOEXEC)?;
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

#[cfg(test)]
mod tests {
    use std::{fs::File, sync::mpsc, thread, time::Duration};

    use super::{
        super::attach::{Held, Link, Stage},
        detach,
    };

    /// Far longer than it takes.
    const LIMIT: Duration = Duration::from_secs(60);

    #[test]
    fn detaching_at_the_same_time_ends() {
        let (done, ended) = mpsc::channel();
        for _ in 0..4 {
            let done = done.clone();
            thread::spawn(move || {
                for _ in 0..100 {
                    let held = Held::Multi(File::open("/dev/null").unwrap().into());
                    detach(vec![Link { stage: Stage::Frees, target: 0, _held: held }]);
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..4 {
            ended.recv_timeout(LIMIT).expect("children that wait for each other");
        }
    }
}
