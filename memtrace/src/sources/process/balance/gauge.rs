//! What allocators say that they have handed out and keep, asked now and then where only windows are watched: what happens in gaps
//! shows there. On a thread of its own, as a heap takes a while to read; no probe is needed for it, and no process stopped.

use std::{
    io,
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use rustc_hash::FxHashMap;

use crate::{
    analysis::balance::HeapSize,
    sources::process::{census, leaks::check::cpu_time},
};

/// Time between two questions, whoever is asked; and before a question to a process that was never asked.
const PAUSE: Duration = Duration::from_secs(5);
const AT_FIRST: Duration = Duration::from_millis(100);
/// The share of one processor that they take at most.
const SHARE: f64 = 0.02;

/// A process to ask.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    /// Index and generation of the target.
    pub(super) id: u32,
    pub(super) pid: u32,
    /// Whether it has glibc's allocator.
    pub(super) has_glibc: bool,
    /// The largest heap of glibc's that is walked, in resident bytes.
    pub(super) most: u64,
}

/// What it has.
pub(super) struct Answer {
    pub(super) id: u32,
    pub(super) taken: Instant,
    /// `None`: its allocators were not understood, or their heaps are too large.
    pub(super) size: Option<HeapSize>,
    cpu: Duration,
}

/// The thread. It ends when this is dropped.
pub(super) struct Gauge {
    questions: Sender<Question>,
    answers: Receiver<Answer>,
    is_asked: bool,
    next: Instant,
    /// When each target was asked last.
    asked: FxHashMap<u32, Instant>,
}

impl Gauge {
    /// # Errors
    /// No more threads.
    pub(super) fn start() -> io::Result<Self> {
        let (questions, asked) = channel();
        let (answer, answers) = channel();
        std::thread::Builder::new().name("memtrace-heaps".to_owned()).spawn(move || {
            for question in asked {
                if answer.send(measure(question)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { questions, answers, is_asked: false, next: Instant::now(), asked: FxHashMap::default() })
    }

    /// The answer to the last question, if it is there.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.is_asked = false;
        self.next = Instant::now() + answer.cpu.div_f64(SHARE);
        Some(answer)
    }

    /// When this target was asked last.
    pub(super) fn asked(&self, id: u32) -> Option<Instant> {
        self.asked.get(&id).copied()
    }

    /// Whether a target that was never asked may be asked now.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_asked && Instant::now() >= self.next + AT_FIRST
    }

    /// Asks a process, once the gauge is ready, unless it was asked before and this would be too early.
    pub(super) fn ask(&mut self, question: Question) {
        let now = Instant::now();
        if self.asked.contains_key(&question.id) && now < self.next + PAUSE {
            return;
        }
        self.asked.insert(question.id, now);
        self.is_asked = self.questions.send(question).is_ok();
    }

    /// Forgets targets that are not among these.
    pub(super) fn retain(&mut self, is_known: impl Fn(u32) -> bool) {
        self.asked.retain(|id, _| is_known(*id));
    }
}

fn measure(question: Question) -> Answer {
    let begin = cpu_time();
    let Question { id, pid, has_glibc, most } = question;
    let size = census::measure(pid, has_glibc, most);
    let cpu = cpu_time().saturating_sub(begin);
    tracing::debug!("heaps of process {pid}: {size:?}, in {cpu:?}");
    Answer { id, taken: Instant::now(), size, cpu }
}
