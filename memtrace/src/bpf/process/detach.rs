//! Removes probes from targets so that none stays, whatever happens to this process meanwhile.
//!
//! When the last reference to a link is dropped, the kernel removes its breakpoints from the target's code, in the
//! context of the process that dropped it. If a fatal signal is pending there, it gives up halfway ("failed to
//! unregister, leaking uprobe"), and a breakpoint stays. In a process that exits voluntarily this does not happen. So a
//! child is forked, which has the link too; this process closes its copy; then the child exits.
//!
//! For each link the kernel waits for grace periods, about 50 ms, and a process that exits closes one after the other. So
//! links are distributed over children, which wait concurrently: 60 targets are detached in 1 s instead of 15.
//!
//! Children exit when they read a byte, or the end of the pipe if this process is killed before. A child forked at the same
//! time would have the pipe's other end too, and each could wait for the other's exit: so there is one group at a time.

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

/// The most children that links are distributed over.
const MAX_CHILDREN: usize = 32;

/// Held from the first child's fork to the last one's end.
static ONE_GROUP: Mutex<()> = Mutex::new(());

/// Links for a thread to detach.
struct Later {
    links: Vec<Link>,
    /// Whether that thread exists.
    is_running: bool,
}

static LATER: Mutex<Later> = Mutex::new(Later { links: Vec::new(), is_running: false });

/// There is more work for it.
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

/// The group that a link is detached with; the highest first.
///
/// Probes on returns go together. The kernel waits until no call in progress can return to a probe. A call that its
/// thread left by `longjmp` never returns; the kernel gives up on it 100 ms after that thread met the last probe of this
/// kind. If some were still in place, it might meet those forever.
fn turn(link: &Link) -> u8 {
    match link.stage {
        Stage::Loader => 0,
        Stage::Frees => 1,
        Stage::MappingReturns | Stage::Mappings | Stage::Returns | Stage::Entries => 2,
        // Before the entries: otherwise a call that was left could be paired with the exit of one whose entry was not seen.
        Stage::Exits => 3,
    }
}

/// Detaches links, in no particular order.
fn detach_together(mut links: Vec<Link>) {
    let _turn = lock(&ONE_GROUP);
    let children = Children::new(&mut links)
        .inspect_err(|error| tracing::debug!("no child to detach with: {error}"))
        .ok();
    // The children still have them.
    drop(links);
    if let Some(children) = children {
        children.end();
    }
}

/// The same without waiting: by one thread, which also handles what is added while it works.
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

/// Detaches what is queued. Does not end: a thread that ends voluntarily just when the process is killed keeps the
/// signal pending, and may be the last one with the links.
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

/// Processes that each hold a share of some links until they are asked to exit.
struct Children {
    pids: Vec<Pid>,
    /// Makes them exit, by a byte each or when it is closed.
    exit: OwnedFd,
}

impl Children {
    /// Forks as many as possible, and waits until none has another one's links.
    fn new(links: &mut [Link]) -> Result<Self, Errno> {
        let mut most = MAX_CHILDREN;
        loop {
            let (children, refused) = Self::fork(links, most)?;
            match (refused, children.pids.len()) {
                (None, _) => return Ok(children),
                (Some(error), 0) => return Err(error),
                (Some(error), some) => {
                    // This process never has a link's last reference: all are distributed again over those that could
                    // be forked.
                    tracing::debug!("only {some} children to detach with: {error}");
                    children.end();
                    most = some;
                }
            }
        }
    }

    /// Forks at most this many, until the system refuses.
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
                // End of file: the remaining ones were killed.
                Ok(0) | Err(_) => break,
                Ok(bytes) => count += bytes,
            }
        }
        Ok((Self { pids, exit }, refused))
    }

    /// Makes them exit, and waits until the kernel is done with their links.
    fn end(self) {
        let Self { pids, exit } = self;
        // If the bytes cannot be written, the end of the pipe does the same.
        let bytes = [0; MAX_CHILDREN];
        let _ = write(&exit, bytes.get(..pids.len()).unwrap_or(&bytes));
        drop(exit);
        for child in pids {
            while waitpid(child, None) == Err(Errno::EINTR) {}
        }
    }
}

/// A child's code: closes all links but its own, reports that, and exits on request. Who reads what this process writes does
/// not have to wait for it.
fn hold(links: &mut [Link], own: Range<usize>, exit: &OwnedFd, say: &OwnedFd, wait: &OwnedFd) -> ! {
    let mut byte = 0u8;
    // SAFETY: a link is closed by a system call, and nothing of this process looks at it afterwards; descriptors of
    // this process, one byte each; no return from the last call.
    unsafe {
        libc::close(exit.as_raw_fd());
        for standard in 0..3 {
            libc::close(standard);
        }
        for (at, link) in links.iter_mut().enumerate() {
            if !own.contains(&at) {
                ptr::drop_in_place(link);
            }
        }
        libc::write(say.as_raw_fd(), (&raw const byte).cast(), 1);
        libc::close(say.as_raw_fd());
        // A signal must not make it exit before the other process has closed its links.
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

    /// Far longer than needed.
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
                // Ends when no process has the other end.
                assert_eq!(reader.read(&mut [0]).unwrap(), 0);
            }
            done.send(()).unwrap();
        });
        ended.recv_timeout(LIMIT).expect("a link that another process still has");
    }
}
