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
    check::{self, Failure},
    decided::Decided,
    job::{Job, Outcome, Tools},
    registers,
};
use crate::{bpf::LiveReader, profile::Moment, target::FileStore};

/// A check that is under way.
pub(super) struct Running {
    /// Index of the target.
    pub(super) index: u32,
    /// Whether it is a check at the target's end.
    pub(super) moment: Moment,
    signals: Arc<Signals>,
}

/// What the loop and a check tell each other.
#[derive(Default)]
pub(super) struct Signals {
    /// The check is to end.
    pub(super) stop: AtomicBool,
    /// It has decided on all blocks, and what remains needs no probe.
    pub(super) decided: AtomicBool,
}

impl Running {
    /// Whether it goes on without probes.
    pub(super) fn is_decided(&self) -> bool {
        self.signals.decided.load(Ordering::Relaxed)
    }

    /// Ends it early: it will fail.
    pub(super) fn stop(&self) {
        self.signals.stop.store(true, Ordering::Relaxed);
    }
}

/// A job, and what concerns it.
type Order = (Job, Arc<Signals>);

/// The thread, as the loop sees it. It ends when this is dropped.
pub(super) struct Worker {
    jobs: Sender<Order>,
    answers: UnboundedReceiver<Result<Outcome, Failure>>,
}

impl Worker {
    /// # Errors
    /// No more threads.
    pub(super) fn start(live: LiveReader, files: Arc<FileStore>) -> io::Result<Self> {
        let (jobs, orders) = channel();
        let (answer, answers) = unbounded_channel();
        std::thread::Builder::new().name("memtrace-leaks".to_owned()).spawn(move || {
            work(&Tools { live, registers: registers::load(), files }, &orders, &answer);
        })?;
        Ok(Self { jobs, answers })
    }

    /// Begins to check the target of that index. One check at a time.
    pub(super) fn check(&self, index: u32, job: Job) -> Option<Running> {
        let (signals, moment) = (Arc::<Signals>::default(), job.moment);
        self.jobs.send((job, Arc::clone(&signals))).ok()?;
        Some(Running { index, moment, signals })
    }

    /// Waits for the result. `None`: the thread has ended.
    pub(super) async fn answered(&mut self) -> Option<Result<Outcome, Failure>> {
        self.answers.recv().await
    }
}

fn work(tools: &Tools, orders: &Receiver<Order>, answer: &UnboundedSender<Result<Outcome, Failure>>) {
    // Of each target's current program.
    let mut decided: FxHashMap<u32, (u32, Decided)> = FxHashMap::default();
    for (job, signals) in orders {
        let (target, known) = decided.entry(memtrace_common::Target::index(job.target)).or_default();
        if *target != job.target {
            (*target, *known) = (job.target, Decided::default());
        }
        if answer.send(check::run(&job, tools, known, &signals)).is_err() {
            return;
        }
    }
}
