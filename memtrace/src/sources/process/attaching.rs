//! How processes come into a session.

use std::{num::NonZeroU32, time::Instant};

use anyhow::{Context as _, bail};

use super::{
    exec::{LOADING, LOADING_LONG, PAUSE},
    session::Session,
    traced::Traced,
};
use crate::target::{self, Process};

impl Session {
    /// Begins to trace a process.
    ///
    /// # Errors
    /// It cannot be traced, or has no allocator that memtrace knows.
    pub fn attach(&mut self, process: Process) -> anyhow::Result<()> {
        let (pid, comm) = (process.pid, process.comm.clone());
        self.add(process)?;
        self.warn_of_profilers(pid);
        let begun = Instant::now();
        let of_it = |target: &&Traced| target.pid() == pid;
        for look in 0.. {
            if self.attach_new(pid)? > 0 {
                return Ok(());
            }
            let is_loading = self.options.placement.choice.is_all()
                && self.targets.iter().rfind(of_it).is_some_and(Traced::is_loading);
            if look >= LOADING && !(is_loading && begun.elapsed() < LOADING_LONG) {
                break;
            }
            std::thread::sleep(PAUSE);
        }
        if self.targets.iter().rfind(of_it).is_some_and(Traced::is_without_memory) {
            return Err(target::Error::Exited(pid.get()).into());
        }
        if !self.options.placement.choice.is_all() {
            bail!(
                "process {pid} ({comm}) has nothing that --allocator, --object, --symbol-prefix, --alloc and --free select: \
                 `memtrace check --pid {pid}` lists the allocators that it has"
            );
        }
        bail!(
            "process {pid} ({comm}) has no allocator that memtrace knows: neither the program nor its libraries define \
             malloc and free. If it is static and stripped, its debug file would help (/usr/lib/debug, by build id); \
             functions of its own can be named by --alloc and --free; `memtrace check --pid {pid}` lists what was looked at"
        );
    }

    /// Adds a process without attaching, for one whose libraries are not mapped yet.
    ///
    /// # Errors
    /// It cannot be read, or there are too many.
    pub fn add(&mut self, process: Process) -> anyhow::Result<()> {
        // One that has exited may have had the same pid.
        let is_same = |target: &Traced| target.pid() == process.pid && !target.process.has_exited();
        if self.targets.iter().any(is_same) {
            bail!("process {} is listed twice", process.pid);
        }
        let index = self.tracer.add_target(process.pid)?;
        self.targets.push(Traced::new(process, index, self.options.placement.clone(), &self.files)?);
        Ok(())
    }

    /// Adds the command that memtrace has started: SIGTERM is passed on to it.
    ///
    /// # Errors
    /// As [`Session::add`]; out of file descriptors.
    pub fn add_command(&mut self, process: Process) -> anyhow::Result<()> {
        self.command = Some(process.exit().context("cannot watch the command")?);
        self.add(process)
    }

    /// Attaches to allocators of a process that have been mapped since. Returns their number.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn attach_new(&mut self, pid: NonZeroU32) -> anyhow::Result<usize> {
        let Some(target) = self.targets.iter().rfind(|target| target.pid() == pid) else { return Ok(0) };
        let index = target.index;
        self.refresh(index, false);
        let Some(target) = self.targets.iter_mut().find(|target| target.index == index) else { return Ok(0) };
        let found = target.attach(&mut self.tracer);
        if found.is_err() && target.process.has_exited() {
            return Err(target::Error::Exited(pid.get()).into());
        }
        found.with_context(|| format!("cannot trace process {pid}"))
    }
}
