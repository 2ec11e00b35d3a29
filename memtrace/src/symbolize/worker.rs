//! The thread that controls the child that reads files: it starts it, waits for it, and replaces it.
//!
//! A file that kills the child, or that it does not finish, is retried with less: without its debug
//! file, without its debug information, not at all.

use std::{
    fs::File,
    io,
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustc_hash::FxHashMap;
use tokio::sync::mpsc::UnboundedSender;

use super::{
    Program, SHOWN,
    wire::{self, Answer, BATCH, DebugLoad, Hello, Load, Named, Request, Trouble},
};
use crate::{
    elf::{CodeFile, DebugFile},
    profile::{FileProblem, Remark, Unread, elide},
};

/// The time limit of a request: the first one on a file reads everything about it.
const LIMIT: Duration = Duration::from_secs(20);

/// After this many failures files are not retried with less.
const PATIENCE: u32 = 20;

/// Addresses of a file to name.
pub(super) struct Job {
    /// The file's number.
    pub(super) number: usize,
    pub(super) code: CodeFile,
    pub(super) addresses: Vec<u64>,
}

/// Attempts to start a child if that fails.
const REFUSED: u32 = 3;

/// The result of part of a job.
pub(super) enum News {
    /// The functions at addresses of a file; empty if nothing is known.
    Names(usize, Vec<(u64, Vec<Named>)>),
    /// A remark for reports, for example that not all of a file is used for names.
    Remark(Remark),
}

/// How much of a file is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// It and its debug file.
    Debug,
    /// Its own debug information.
    Own,
    /// Its symbol tables.
    Symbols,
    /// Nothing.
    Nothing,
}

/// A running child.
struct Helper {
    process: Child,
    socket: UnixStream,
    /// Files that it has, and how often a map had changed.
    loaded: FxHashMap<usize, u64>,
    /// Whether it has answered a request.
    has_answered: bool,
}

impl Drop for Helper {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The state of the thread.
pub(super) struct Worker {
    program: Program,
    helper: Option<Helper>,
    /// How often starting a child has failed.
    refused: u32,
    depths: FxHashMap<usize, Depth>,
    failures: u32,
    news: UnboundedSender<News>,
}

impl Worker {
    pub(super) fn new(program: Program, news: UnboundedSender<News>) -> Self {
        Self { program, helper: None, refused: 0, depths: FxHashMap::default(), failures: 0, news }
    }

    /// Processes jobs until there are no more.
    pub(super) fn run(mut self, jobs: &std::sync::mpsc::Receiver<Job>) {
        for job in jobs {
            for batch in job.addresses.chunks(BATCH) {
                let mut names = self.names(&job, batch);
                names.resize(batch.len(), Vec::new());
                let names = batch.iter().copied().zip(names).collect();
                if self.news.send(News::Names(job.number, names)).is_err() {
                    return;
                }
            }
        }
    }

    fn names(&mut self, job: &Job, batch: &[u64]) -> Vec<Vec<Named>> {
        loop {
            let first = if job.code.debug.is_some() { Depth::Debug } else { Depth::Own };
            let depth = *self.depths.entry(job.number).or_insert(first);
            if depth == Depth::Nothing || !self.has_helper() {
                return Vec::new();
            }
            match self.ask(job, depth, batch) {
                Ok(answer) => {
                    for Trouble { unread, error } in answer.problems {
                        self.trouble(&job.code, unread, FileProblem::Refused { error });
                    }
                    return answer.places;
                }
                Err(error) => self.failed(job, depth, &error),
            }
        }
    }

    /// Whether there is a child; starts one if there is none.
    fn has_helper(&mut self) -> bool {
        if self.helper.is_none() && self.refused < REFUSED {
            match Helper::start(&self.program, &self.news) {
                Ok(helper) => self.helper = Some(helper),
                Err(error) => {
                    self.refused += 1;
                    let _ = self.news.send(News::Remark(Remark::NoReader { error: error.to_string() }));
                }
            }
        }
        self.helper.is_some()
    }

    fn ask(&mut self, job: &Job, depth: Depth, batch: &[u64]) -> io::Result<Answer> {
        let Some(helper) = &mut self.helper else { return Err(io::ErrorKind::NotFound.into()) };
        let (number, code) = (job.number, &job.code);
        let debug = code.debug.as_ref().filter(|_| depth == Depth::Debug);
        let (mut load, mut files) = (None, Vec::new());
        let revision = code.generated.map_or(0, |(_, revision)| revision);
        if helper.loaded.insert(number, revision) != Some(revision) {
            files.push(&*code.file);
            if let Some(debug) = debug {
                files.push(&*debug.file);
                files.extend(debug.shared.as_deref());
            }
            let only_symbols = depth == Depth::Symbols;
            load = Some(Load {
                size: size(&code.file)?,
                debug: debug.map(debug_load).transpose()?,
                only_symbols,
                is_map: code.generated.is_some(),
            });
        }
        let request = Request { file: number as u64, load, addresses: batch.to_vec() };
        wire::send(&helper.socket, &request, &files)?;
        let answer = wire::answer(&mut helper.socket, LIMIT)?;
        helper.has_answered = true;
        Ok(answer)
    }

    /// The child has died or hangs. If another file may be the cause, or it may have been killed, the file is
    /// retried unchanged.
    fn failed(&mut self, job: &Job, depth: Depth, error: &io::Error) {
        let helper = self.helper.take();
        let is_in_time = error.kind() != io::ErrorKind::TimedOut;
        if is_in_time && helper.is_some_and(|helper| helper.has_answered) {
            return;
        }
        self.failures += 1;
        let (next, unread) = match depth {
            _ if self.failures > PATIENCE => (Depth::Nothing, Unread::Symbols),
            Depth::Debug => (Depth::Own, Unread::DebugFile),
            Depth::Own => (Depth::Symbols, Unread::DebugInfo),
            Depth::Symbols | Depth::Nothing => (Depth::Nothing, Unread::Symbols),
        };
        self.depths.insert(job.number, next);
        let problem = match error.kind() {
            io::ErrorKind::TimedOut => FileProblem::TooSlow { seconds: LIMIT.as_secs() },
            io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset => {
                FileProblem::ReaderEnded
            }
            _ => FileProblem::Unreadable { error: error.to_string() },
        };
        self.trouble(&job.code, unread, problem);
    }

    fn trouble(&self, code: &CodeFile, unread: Unread, problem: FileProblem) {
        let _ = self.news.send(News::Remark(super::trouble(code, unread, problem)));
    }
}

fn debug_load(debug: &DebugFile) -> io::Result<DebugLoad> {
    let shared = debug.shared.as_deref().map(size).transpose()?;
    Ok(DebugLoad { size: size(&debug.file)?, crc: debug.crc, shared })
}

/// Where the child's output goes. There is no /dev in a root without devices; writing to a pipe that nobody reads is an error.
fn nowhere() -> io::Result<Stdio> {
    let null = File::options().write(true).open("/dev/null").map(Stdio::from);
    null.or_else(|_| io::pipe().map(|(_, unread)| unread.into()))
}

fn size(file: &File) -> io::Result<u64> {
    file.metadata().map(|metadata| metadata.len())
}

impl Helper {
    /// Starts the child: this program, executed again, without this process's memory and descriptors.
    fn start(program: &Program, news: &UnboundedSender<News>) -> io::Result<Self> {
        let (mut socket, theirs) = UnixStream::pair()?;
        let process = Command::new("/proc/self/exe")
            .arg0("memtrace")
            .args([program.command, &std::process::id().to_string()])
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(nowhere()?)
            .stderr(nowhere()?)
            // A signal from the terminal is for the agent.
            .process_group(0)
            .spawn()?;
        socket.set_write_timeout(Some(LIMIT))?;
        let hello = wire::answer::<Hello>(&mut socket, LIMIT);
        let helper = Self { process, socket, loaded: FxHashMap::default(), has_answered: false };
        for kept in hello?.kept {
            let kept = elide(&kept, SHOWN).into_owned();
            let _ = news.send(News::Remark(Remark::ReaderPrivileged { kept }));
        }
        Ok(helper)
    }
}

/// Starts the thread. It ends when the sender of jobs is dropped.
pub(super) fn start(
    program: Program,
    news: UnboundedSender<News>,
) -> io::Result<std::sync::mpsc::Sender<Job>> {
    let (sender, jobs) = std::sync::mpsc::channel();
    let worker = Worker::new(program, news);
    std::thread::Builder::new().name("symbolize".to_owned()).spawn(move || worker.run(&jobs))?;
    Ok(sender)
}
