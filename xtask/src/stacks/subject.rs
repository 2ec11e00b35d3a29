//! A program that runs, with what loads it; gone when dropped.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

/// How long a program may take to become ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// What to trace.
pub(super) enum Trace {
    /// A running process.
    Attach(u32),
    /// A command, from its start to its end. Nobody reads its output.
    Run(Vec<String>),
}

/// The processes and threads of a program under load. Dropped in this order: load, servers, directory.
pub(super) struct Subject {
    traces: Vec<Trace>,
    loads: Vec<Load>,
    processes: Vec<Running>,
    directory: TempDir,
}

impl Subject {
    pub(super) fn new() -> Result<Self> {
        let directory = tempfile::tempdir().context("a temporary directory")?;
        Ok(Self { traces: Vec::new(), loads: Vec::new(), processes: Vec::new(), directory })
    }

    /// A directory of its own.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(super) fn traces(&self) -> &[Trace] {
        &self.traces
    }

    pub(super) fn trace(&mut self, trace: Trace) {
        self.traces.push(trace);
    }

    /// Starts a process that ends with this; returns its id.
    pub(super) fn start(&mut self, command: &mut Command) -> Result<u32> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id();
        self.processes.push(Running(child));
        Ok(pid)
    }

    /// Calls `round` again and again, in a thread, until it fails or this is dropped.
    pub(super) fn load(&mut self, mut round: impl FnMut() -> io::Result<()> + Send + 'static) {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || while !stopped.load(Ordering::Relaxed) && round().is_ok() {});
        self.loads.push(Load { stop, thread: Some(thread) });
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.loads.clear();
        // Clients before servers.
        while self.processes.pop().is_some() {}
    }
}

struct Load {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A child, asked to end when dropped: a server with children of its own takes them along.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-INT", &self.0.id().to_string()]).stderr(Stdio::null()).status();
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end {
            if !matches!(self.0.try_wait(), Ok(None)) {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `ready` has an answer.
pub(super) fn wait_for<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> Result<T> {
    let end = Instant::now() + PATIENCE;
    while Instant::now() < end {
        if let Some(answer) = ready() {
            return Ok(answer);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{what} was not ready in {} s", PATIENCE.as_secs())
}

/// The children of a process, with their command lines.
pub(super) fn children(pid: u32) -> Vec<(u32, String)> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|child| {
            let line = fs::read(format!("/proc/{child}/cmdline")).ok()?;
            Some((child.parse().ok()?, String::from_utf8_lossy(&line).into_owned()))
        })
        .collect()
}

/// Runs a command to its end.
pub(super) fn finish(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
