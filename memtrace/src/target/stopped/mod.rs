//! Stopping every thread of a process, to read its registers or its memory at one moment.
//!
//! With ptrace (`PTRACE_SEIZE`, `PTRACE_INTERRUPT`), so that the kernel resumes every thread if this process ends, however it
//! ends. Unlike `bpf`'s reading of registers it interrupts system calls: most begin again, but some fail with EINTR
//! (`epoll_wait`, `semop`, and others in signal(7)). So it is done on request only.
//!
//! ptrace must be called by the thread that seized the others: one thread of this process makes all these calls, from the
//! first stop until this process ends. It does not end before, because a thread of the agent must not end by itself while
//! there are links (`bpf::process::detach`). A thread that does not stop in time is released when it does.

mod state;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs, io,
    sync::{
        Mutex, PoisonError,
        mpsc::{self, Receiver, RecvTimeoutError, Sender},
    },
    thread,
    time::{Duration, Instant},
};

use self::state::{State, state};
use super::{
    error::Error,
    ptrace::{self, registers},
    threads,
};
use crate::model::ThreadRegisters;

/// How long threads are waited for. One in a system call that cannot be interrupted may take any time.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How long a release is waited for; it is done afterwards too.
const RELEASE_LIMIT: Duration = Duration::from_secs(1);

/// Time between two looks at threads that are to stop, and at those that have not stopped in time.
const STEP: Duration = Duration::from_micros(200);
const LATE_STEP: Duration = Duration::from_millis(10);

/// A process whose threads are stopped until this is dropped, or this process ends.
pub struct Stopped {
    pid: u32,
    threads: Vec<ThreadRegisters>,
}

impl Stopped {
    /// Stops every thread of process `pid`, and those that they start meanwhile. Takes some ten microseconds a thread, and
    /// up to a second if a thread does not stop (in `vfork` or on a device); that one runs no code of its own either until
    /// this is dropped, but its registers are not known.
    ///
    /// # Errors
    /// The process does not exist, is traced by another one (a debugger), or this process may not trace it.
    pub fn new(pid: u32) -> Result<Self, Error> {
        let (answer, answers) = mpsc::channel();
        send(Order::Stop { pid, answer }).map_err(|source| failed(pid, source))?;
        let threads = answers.recv().map_err(|_gone| failed(pid, io::ErrorKind::BrokenPipe.into()))?;
        Ok(Self { pid, threads: threads? })
    }

    /// Registers of each thread, in order of thread ids. A thread that did not stop has no `sp` and no words.
    #[must_use]
    pub fn registers(&self) -> &[ThreadRegisters] {
        &self.threads
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let (answer, answers) = mpsc::channel();
        if send(Order::Release { pid: self.pid, answer }).is_ok() {
            let _ = answers.recv_timeout(RELEASE_LIMIT);
        }
    }
}

/// What the thread that calls ptrace is asked for.
enum Order {
    /// Stop a process.
    Stop { pid: u32, answer: Sender<Result<Vec<ThreadRegisters>, Error>> },
    /// Release it.
    Release { pid: u32, answer: Sender<()> },
}

/// Gives an order to that thread, which the first one starts.
fn send(order: Order) -> io::Result<()> {
    static ORDERS: Mutex<Option<Sender<Order>>> = Mutex::new(None);
    let mut orders = ORDERS.lock().unwrap_or_else(PoisonError::into_inner);
    let sender = match &mut *orders {
        Some(sender) => sender,
        none => {
            let (sender, receiver) = mpsc::channel();
            thread::Builder::new().name("ptrace".to_owned()).spawn(move || serve(&receiver))?;
            none.insert(sender)
        }
    };
    sender.send(order).map_err(|_gone| io::ErrorKind::BrokenPipe.into())
}

/// Carries out orders as long as this process lives.
fn serve(orders: &Receiver<Order>) {
    let mut stopped: BTreeMap<u32, Threads> = BTreeMap::new();
    let mut late = Threads::new();
    loop {
        let order = if late.is_empty() {
            orders.recv().map_err(|_gone| RecvTimeoutError::Disconnected)
        } else {
            orders.recv_timeout(LATE_STEP)
        };
        match order {
            Ok(Order::Stop { pid, answer }) => {
                let outcome = match stopped.entry(pid) {
                    Entry::Occupied(_) => Err(failed(pid, io::ErrorKind::AlreadyExists.into())),
                    Entry::Vacant(place) => {
                        let threads = place.insert(Threads::new());
                        stop(pid, threads, &mut late, Instant::now() + STOP_LIMIT)
                    }
                };
                if outcome.is_err()
                    && let Some(threads) = stopped.remove(&pid)
                {
                    late.extend(release(threads));
                }
                let _ = answer.send(outcome);
            }
            Ok(Order::Release { pid, answer }) => {
                late.extend(release(stopped.remove(&pid).unwrap_or_default()));
                let _ = answer.send(());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        late = release(std::mem::take(&mut late));
    }
}

/// Threads that this one has seized.
type Threads = BTreeMap<i32, State>;

/// Stops every thread of a process. `late`: threads that have not been released yet.
fn stop(
    pid: u32,
    threads: &mut Threads,
    late: &mut Threads,
    end: Instant,
) -> Result<Vec<ThreadRegisters>, Error> {
    loop {
        let is_new = seize_all(pid, threads, late)?;
        for (tid, state) in threads.iter_mut() {
            if *state == State::Running {
                *state = self::state(*tid);
            }
        }
        threads.retain(|_, state| *state != State::Gone);
        let running = threads.iter().filter(|(_, state)| **state == State::Running);
        // A thread that ends as the last one does not report it before those behind it are gone.
        let pending = running.filter(|(tid, _)| threads::lives(pid, tid.unsigned_abs())).count();
        if !is_new && (pending == 0 || Instant::now() >= end) {
            break;
        }
        if pending > 0 {
            thread::sleep(STEP);
        }
    }
    if threads.is_empty() {
        return Err(Error::NoSuchProcess(pid));
    }
    // Of a thread that has not stopped, nothing is known.
    Ok(threads.keys().map(|tid| registers::all(*tid)).collect())
}

/// Seizes the threads that are not seized yet. Whether there were any.
fn seize_all(pid: u32, threads: &mut Threads, late: &mut Threads) -> Result<bool, Error> {
    let mut is_new = false;
    let Ok(directory) = fs::read_dir(format!("/proc/{pid}/task")) else { return Ok(false) };
    for tid in directory.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok()) {
        let id = tid.cast_signed();
        if threads.contains_key(&id) {
            continue;
        }
        let seized = if late.remove(&id).is_some() { Ok(()) } else { seize(id) };
        match seized {
            Ok(()) => {
                threads.insert(id, State::Running);
                is_new = true;
            }
            // It has ended, or is about to.
            Err(_) if !threads::lives(pid, tid) => {}
            Err(source) => return Err(failed(pid, source)),
        }
    }
    Ok(is_new)
}

/// Seizes a thread and interrupts it.
///
/// # Errors
/// EPERM for a thread that is traced already, or is ending.
fn seize(tid: i32) -> io::Result<()> {
    ptrace::seize(tid, 0)?;
    // It may end meanwhile.
    let _ = ptrace::interrupt(tid);
    Ok(())
}

/// Releases threads. Returns those that have not stopped yet, which cannot be released before, and those that were killed
/// meanwhile and have not quite ended.
fn release(threads: Threads) -> Threads {
    let is_left = |tid: i32, state: State| match state {
        State::Stopped { signal } => ptrace::detach(tid, signal).is_err(),
        State::Running => true,
        State::Gone => false,
    };
    let mut left = Threads::new();
    for (tid, state) in threads {
        if is_left(tid, state) && is_left(tid, self::state(tid)) {
            left.insert(tid, State::Running);
        }
    }
    left
}

fn failed(pid: u32, source: io::Error) -> Error {
    let tracer = if source.kind() == io::ErrorKind::PermissionDenied { tracer(pid) } else { None };
    let source = match tracer {
        Some(tracer) => io::Error::other(format!(
            "process {tracer} traces it already (ptrace: a debugger, strace, another scan --stop)"
        )),
        None => source,
    };
    Error::Process { pid, what: "stop", source }
}

/// The process that traces another one.
fn tracer(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|&tracer| tracer != 0)
}
