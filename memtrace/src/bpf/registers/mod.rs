//! The registers of a process's threads, read without stopping them and without interrupting their system calls.
//!
//! A thread that enters the kernel leaves its registers on its kernel stack. An iterator over tasks (`iter/task`) reads
//! them there; they are current for every thread that is not on a CPU. A thread that is on one has registers of its own:
//! a perf event makes the kernel take a sample of these at the next tick of a timer (`sample`). Both are tried in turn,
//! since threads come from and go to CPUs all the time.

mod load;
mod record;
mod sample;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read as _},
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use aya_obj::generated::{bpf_attach_type, bpf_cmd};
use rustc_hash::FxHashMap;

use crate::{
    bpf::shared::{error::Error, syscall},
    model::ThreadRegisters,
};
use record::{RECORD, Record};
use sample::Sampler;

/// Threads of one process that are read at most: 37 MB of records.
const MOST_THREADS: usize = 1 << 16;

/// How long threads that run are waited for.
const PATIENCE: Duration = Duration::from_millis(20);

/// Time between two readings.
const STEP: Duration = Duration::from_millis(2);

/// Bytes read at a time; the kernel gives 32 KiB at most.
const PIECE: usize = 1 << 15;

/// Reads registers. It belongs to no tracer, and any thread may use it.
pub struct RegisterReader {
    program: OwnedFd,
}

impl RegisterReader {
    /// Loads the program: some 100 ms, most of it for the kernel's BTF. It costs nothing until registers are read.
    ///
    /// # Errors
    /// Registers cannot be read here: missing privileges ([`Error::is_permission`]), no BTF, a kernel before 5.15.
    pub fn load() -> Result<Self, Error> {
        Ok(Self { program: load::load()? })
    }

    /// The registers of every thread of process `pid`, a number of this process's PID namespace, in order of thread ids.
    /// Empty if there is no such process. Threads that are ending are left out: they never return to user mode. A thread
    /// that can be read neither at rest nor by a sample within 20 ms has no `sp`.
    ///
    /// Each thread's registers are of one moment, but not all threads' of the same one. What a thread that began meanwhile
    /// holds may be missing. A 32-bit process's registers are what its kernel makes of them.
    ///
    /// Takes time in proportion to the number of threads, and up to 20 ms more if some run.
    ///
    /// # Errors
    /// The kernel refused, or the process has more than 65,536 threads: none are returned then.
    pub fn read(&self, pid: u32) -> Result<Vec<ThreadRegisters>, Error> {
        let iterator = ThreadIterator::new(&self.program, pid)?;
        self.settle(&iterator, Instant::now() + PATIENCE)
    }

    fn settle(&self, iterator: &ThreadIterator, end: Instant) -> Result<Vec<ThreadRegisters>, Error> {
        let mut known: FxHashMap<u32, ThreadRegisters> = FxHashMap::default();
        let mut sampler = Sampler::default();
        loop {
            let mut open: Vec<Record> = Vec::new();
            for record in iterator.records()? {
                let tid = record.registers.tid;
                if record.is_settled() && !record.is_ending() {
                    known.entry(tid).or_insert(record.registers);
                } else if !record.is_ending() && !known.contains_key(&tid) {
                    open.push(record);
                }
            }
            let left = end.saturating_duration_since(Instant::now());
            if open.is_empty() || left.is_zero() {
                // Not current perhaps, but nothing else is known.
                let unsettled =
                    open.into_iter().map(|record| ThreadRegisters { sp: None, ..record.registers });
                let mut threads: Vec<ThreadRegisters> = known.into_values().chain(unsettled).collect();
                threads.sort_unstable_by_key(|thread| thread.tid);
                return Ok(threads);
            }
            let running = open.iter().filter(|record| record.is_running()).map(|record| record.registers.tid);
            sampler.watch(running);
            for sample in sampler.wait(left.min(STEP)) {
                let Some(record) = open.iter().find(|record| record.registers.tid == sample.tid) else {
                    continue;
                };
                let tls = record.registers.tls;
                let words = sample
                    .words
                    .into_iter()
                    .chain(tls)
                    .chain([record.signal_stack])
                    .filter(|&word| word != 0)
                    .collect();
                known.entry(sample.tid).or_insert(ThreadRegisters {
                    tid: sample.tid,
                    sp: Some(sample.sp),
                    tls,
                    words,
                });
            }
        }
    }
}

/// An iterator over the threads of a process.
struct ThreadIterator {
    link: OwnedFd,
    pid: u32,
}

impl ThreadIterator {
    fn new(program: &OwnedFd, pid: u32) -> Result<Self, Error> {
        let link = match create_link(program, Some(pid)) {
            // Before 6.1 the kernel does not restrict it to a process: E2BIG.
            Err(error) if error.raw_os_error() == Some(libc::E2BIG) => create_link(program, None),
            made => made,
        };
        Ok(Self { link: link.map_err(Error::io("making an iterator over threads"))?, pid })
    }

    /// Reads every thread once.
    fn records(&self) -> Result<Vec<Record>, Error> {
        let mut attr = syscall::attributes();
        attr.iter_create.link_fd = self.link.as_raw_fd() as u32;
        // SAFETY: no pointers are given; the result is a new descriptor.
        let file = unsafe { syscall::bpf(bpf_cmd::BPF_ITER_CREATE, &mut attr).map(|fd| syscall::owned(fd)) };
        let mut file = File::from(file.map_err(Error::io("starting an iterator over threads"))?);
        let mut buffer = vec![0; PIECE];
        let mut rest = Vec::new();
        let mut records = Vec::new();
        loop {
            let length = match file.read(&mut buffer) {
                // It has looked at a million tasks, or a signal came.
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) =>
                {
                    continue;
                }
                result => result.map_err(Error::io("reading the registers of threads"))?,
            };
            if length == 0 {
                return Ok(records);
            }
            rest.extend_from_slice(buffer.get(..length).unwrap_or_default());
            let whole = rest.len() / RECORD * RECORD;
            let threads = rest.chunks_exact(RECORD).filter_map(Record::parse);
            records.extend(threads.filter(|record| record.tgid == self.pid));
            rest.drain(..whole);
            if records.len() > MOST_THREADS {
                return Err(Error::TooManyThreads { pid: self.pid, most: MOST_THREADS });
            }
        }
    }
}

/// Makes an iterator over the threads of a process, or over all.
fn create_link(program: &OwnedFd, pid: Option<u32>) -> io::Result<OwnedFd> {
    // `bpf_iter_link_info.task`: tid, pid, pid_fd (include/uapi/linux/bpf.h).
    let restriction = [0, pid.unwrap_or(0), 0];
    let mut attr = syscall::attributes();
    attr.link_create.attach_type = bpf_attach_type::BPF_TRACE_ITER as u32;
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    if pid.is_some() {
        // SAFETY: every field of the union is plain data, and this is the one that iterators read.
        let iterator = unsafe { &mut attr.link_create.__bindgen_anon_3.__bindgen_anon_1 };
        iterator.iter_info = restriction.as_ptr() as u64;
        iterator.iter_info_len = size_of_val(&restriction) as u32;
    }
    // SAFETY: the restriction lives until after the call, and has the length given.
    unsafe { syscall::bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr).map(|fd| syscall::owned(fd)) }
}
