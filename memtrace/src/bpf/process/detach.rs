//! Taking probes out of targets, so that none stays whatever happens to this process meanwhile.
//!
//! When the last reference to a link goes, the kernel takes its breakpoints out of the target's code, in the context of
//! the process that gave it up. If a fatal signal is pending there it gives up halfway («failed to unregister, leaking
//! uprobe»), and a breakpoint stays. Not so in a process that is exiting by itself. So a child is forked, which has
//! the link too; this process closes its own; and then the child exits.
//!
//! For each link the kernel waits for grace periods, about 50 ms, and a process that exits closes one after the other. So
//! links are shared out among children, which wait at the same time: 60 targets are detached in 1 s instead of 15.
//!
//! Children are told to exit by a byte, or by the end of the pipe if this process is killed before. A child of the same
//! moment would have the pipe's other end too, and each could wait for the other's exit: so there is one group at a time.

use std::{
    ops::Range,
    os::fd::{AsRawFd as _, OwnedFd},
    ptr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use nix::{
    errno::Errno,
    fcntl::OFlag,
    sys::wait::waitpid,
    unistd::{ForkResult, Pid, fork, pipe2, read, write},
};

use super::attach::{Link, Stage};

/// Links are shared out among so many children at most.
const MAX_CHILDREN: usize = 32;

/// Held from the first child's fork to the last one's end.
static ONE_GROUP: Mutex<()> = Mutex::new(());

/// Links that a thread is to detach.
struct Later {
    links: Vec<Link>,
    /// Whether there is that thread.
    is_running: bool,
}

static LATER: Mutex<Later> = Mutex::new(Later { links: Vec::new(), is_running: false });

/// There is more for it.
static MORE: Condvar = Condvar::new();

/// Detaches in the opposite order of attaching, and waits until the kernel is done.
pub(super) fn detach(mut links: Vec<Link>) {
    links.sort_by_key(turn);
    while let Some(last) = links.last().map(turn) {
        let first = links.partition_point(|link| turn(link) < last);
        let last: Vec<Link> = links.drain(first..).collect();
        detach_together(last);
    }
}

/// What a link is detached with; the highest first.
///
/// What looks at returns goes together. The kernel waits until no call under way can return to a probe. A call that its
/// thread left by `longjmp` never returns; the kernel gives up on it 100 ms after that thread met the last probe of this
/// kind. Were some still in place, it might meet those for ever.
fn turn(link: &Link) -> u8 {
    match link.stage {
        Stage::Loader => 0,
        Stage::Frees => 1,
        Stage::MappingReturns | Stage::Mappings | Stage::Returns | Stage::Entries => 2,
        // Before the entries: else a call that was left would be settled by the exit of one whose entry was not seen.
        Stage::Exits => 3,
    }
}

/// Detaches links, in no order.
fn detach_together(mut links: Vec<Link>) {
    let _turn = lock(&ONE_GROUP);
    let children = Children::new(&mut links)
        .inspect_err(|error| tracing::debug!("no child to detach with: {error}"))
        .ok();
    // The children have them still.
    drop(links);
    if let Some(children) = children {
        children.end();
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
    MORE.notify_one();
}

/// Detaches what is waiting for it. Does not end: a thread that ends by itself just when the process is killed keeps the
/// signal pending, and may be the last one to have the links.
fn detach_pending() {
    loop {
        let links = {
            let later = lock(&LATER);
            let mut later = MORE
                .wait_while(later, |later| later.links.is_empty())
                .unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut later.links)
        };
        detach(links);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Processes that each hold a share of some links until they are told to exit.
struct Children {
    pids: Vec<Pid>,
    /// Tells them to, by a byte for each or when it is closed.
    exit: OwnedFd,
}

impl Children {
    /// Forks as many as can be, and waits until none has another one's links.
    fn new(links: &mut [Link]) -> Result<Self, Errno> {
        let mut most = MAX_CHILDREN;
        loop {
            let (children, refused) = Self::fork(links, most)?;
            match (refused, children.pids.len()) {
                (None, _) => return Ok(children),
                (Some(error), 0) => return Err(error),
                (Some(error), some) => {
                    // No link's last reference is this process's: all are shared out again among those there can be.
                    tracing::debug!("only {some} children to detach with: {error}");
                    children.end();
                    most = some;
                }
            }
        }
    }

    /// Forks at most so many, until that is refused.
    fn fork(links: &mut [Link], most: usize) -> Result<(Self, Option<Errno>), Errno> {
        let (wait, exit) = pipe2(OFlag::O_CLOEXEC)?;
        let (ready, say) = pipe2(OFlag::O_CLOEXEC)?;
        let share = links.len().div_ceil(most).max(1);
        let mut pids = Vec::with_capacity(most);
        let mut refused = None;
        for start in (0..links.len()).step_by(share) {
            let end = links.len().min(start + share);
            // SAFETY: the child only makes system calls.
            match unsafe { fork() } {
                Ok(ForkResult::Parent { child }) => pids.push(child),
                Ok(ForkResult::Child) => hold(links, start..end, &exit, &say, &wait),
                Err(error) => {
                    refused = Some(error);
                    break;
                }
            }
        }
        drop(say);
        let mut said = [0; MAX_CHILDREN];
        let mut count = 0;
        while count < pids.len() {
            match read(&ready, &mut said) {
                Err(Errno::EINTR) => {}
                // The end: those that are left were killed.
                Ok(0) | Err(_) => break,
                Ok(bytes) => count += bytes,
            }
        }
        Ok((Self { pids, exit }, refused))
    }

    /// Tells them to exit, and waits until the kernel is done with their links.
    fn end(self) {
        let Self { pids, exit } = self;
        // Where the bytes cannot be written the end of the pipe does the same.
        let bytes = [0; MAX_CHILDREN];
        let _ = write(&exit, bytes.get(..pids.len()).unwrap_or(&bytes));
        drop(exit);
        for child in pids {
            while waitpid(child, None) == Err(Errno::EINTR) {}
        }
    }
}

/// What a child does: gives up all links but its own, says so, and exits when it is told to.
fn hold(links: &mut [Link], own: Range<usize>, exit: &OwnedFd, say: &OwnedFd, wait: &OwnedFd) -> ! {
    let mut byte = 0u8;
    // SAFETY: a link is closed by a system call, and nothing of this process looks at it afterwards; descriptors of
    // this process, one byte each; no return from the last call.
    unsafe {
        libc::close(exit.as_raw_fd());
        for (at, link) in links.iter_mut().enumerate() {
            if !own.contains(&at) {
                ptr::drop_in_place(link);
            }
        }
        libc::write(say.as_raw_fd(), (&raw const byte).cast(), 1);
        libc::close(say.as_raw_fd());
        // A signal is no reason to exit before the other process has closed its links.
        while libc::read(wait.as_raw_fd(), (&raw mut byte).cast(), 1) < 0 && Errno::last() == Errno::EINTR {}
        libc::_exit(0)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, pipe},
        sync::mpsc,
        thread,
        time::Duration,
    };

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

    #[test]
    fn more_links_than_children_are_all_given_up() {
        let (readers, links): (Vec<_>, Vec<_>) = (0..u8::MAX)
            .map(|target| {
                let (reader, writer) = pipe().unwrap();
                let link = Link { stage: Stage::Frees, target, _held: Held::Multi(writer.into()) };
                (reader, link)
            })
            .unzip();
        let (done, ended) = mpsc::channel();
        thread::spawn(move || {
            detach(links);
            for mut reader in readers {
                // Ends when nobody has the other end any more.
                assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            }
            done.send(()).unwrap();
        });
        ended.recv_timeout(LIMIT).expect("a link that somebody still has");
    }
}
