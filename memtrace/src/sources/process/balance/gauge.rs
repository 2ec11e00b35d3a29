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

/// Time between two questions, whoever is asked; and before each process was asked once.
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
    /// The targets that were asked, with the number of the last question to each.
    asked: FxHashMap<u32, u64>,
    number: u64,
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
        Ok(Self {
            questions,
            answers,
            is_asked: false,
            next: Instant::now(),
            asked: FxHashMap::default(),
            number: 0,
        })
    }

    /// The answer to the last question, if it is there.
    pub(super) fn answer(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.is_asked = false;
        self.next = Instant::now() + answer.cpu.div_f64(SHARE);
        Some(answer)
    }

    /// When this target was asked last, as a number; 0: never.
    pub(super) fn turn(&self, id: u32) -> u64 {
        self.asked.get(&id).copied().unwrap_or_default()
    }

    /// Whether one that was never asked may be asked now.
    pub(super) fn is_ready(&self) -> bool {
        !self.is_asked && Instant::now() >= self.next + AT_FIRST
    }

    /// Asks one process, unless that would be too early.
    pub(super) fn ask(&mut self, question: Question) {
        let is_first = self.turn(question.id) == 0;
        if !self.is_ready() || !is_first && Instant::now() < self.next + PAUSE {
            return;
        }
        self.number += 1;
        self.asked.insert(question.id, self.number);
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
