//! The thread that checks for leaks: the loop, which keeps the budget, must not wait for it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, Sender, channel},
    },
};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    check::{self, Failure, Job, Outcome, Tools},
    decided::Decided,
};
use crate::{
    bpf::{LiveReader, RegisterReader},
    profile::Moment,
    target::FileStore,
};

/// A check that is under way.
pub(super) struct Running {
    /// Index of the target.
    pub(super) index: u32,
    /// Whether it is a check at the target's end.
    pub(super) moment: Moment,
    stop: Arc<AtomicBool>,
}

impl Running {
    /// Ends it early: it will fail.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// A job, and whether to stop it.
type Order = (Job, Arc<AtomicBool>);

/// The thread, as the loop sees it. It ends when this is dropped.
pub(super) struct Worker {
    jobs: Sender<Order>,
    answers: UnboundedReceiver<Result<Outcome, Failure>>,
}

impl Worker {
    /// `running`: whether processes are to be checked while they run, which takes their registers: what reads these is loaded now.
    ///
    /// # Errors
    /// No more threads.
    pub(super) fn start(live: LiveReader, files: Arc<FileStore>, running: bool) -> io::Result<Self> {
        let (jobs, orders) = channel();
        let (answer, answers) = unbounded_channel();
        std::thread::Builder::new().name("memtrace-leaks".to_owned()).spawn(move || {
            let registers = if running { Some(registers()) } else { None };
            work(live, registers, files, &orders, &answer);
        })?;
        Ok(Self { jobs, answers })
    }

    /// Begins to check the target of that index. One check at a time.
    pub(super) fn check(&self, index: u32, job: Job) -> Option<Running> {
        let (stop, moment) = (Arc::new(AtomicBool::new(false)), job.moment);
        self.jobs.send((job, Arc::clone(&stop))).ok()?;
        Some(Running { index, moment, stop })
    }

    /// Waits for the result. `None`: the thread has ended.
    pub(super) async fn answered(&mut self) -> Option<Result<Outcome, Failure>> {
        self.answers.recv().await
    }
}

/// What reads registers of running threads; `None` on kernels where that is not possible.
pub(in crate::sources::process) fn registers() -> Option<RegisterReader> {
    let reader = RegisterReader::load();
    // It has parsed the kernel's BTF, some 30 MiB: back to the system with them.
    #[cfg(target_env = "gnu")]
    // SAFETY: it only gives free memory back.
    unsafe {
        libc::malloc_trim(0);
    }
    reader.inspect_err(|error| tracing::debug!("no registers of running threads: {error}")).ok()
}

/// `registers`: what reads them, if that was tried.
fn work(
    live: LiveReader,
    registers: Option<Option<RegisterReader>>,
    files: Arc<FileStore>,
    orders: &Receiver<Order>,
    answer: &UnboundedSender<Result<Outcome, Failure>>,
) {
    // Of each target's current program.
    let mut decided: FxHashMap<u32, (u32, Decided)> = FxHashMap::default();
    let mut is_tried = registers.is_some();
    let mut tools = Tools { live, registers: registers.flatten(), files };
    for (job, stop) in orders {
        if job.held.is_none() && !std::mem::replace(&mut is_tried, true) {
            tools.registers = self::registers();
        }
        let (target, known) = decided.entry(memtrace_common::Target::index(job.target)).or_default();
        if *target != job.target {
            (*target, *known) = (job.target, Decided::default());
        }
        if answer.send(check::run(&job, &tools, known, &stop)).is_err() {
            return;
        }
    }
}
