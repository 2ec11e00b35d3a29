//! A session of kernel mode.

mod census;
mod frames;
mod remarks;
mod report;
mod source;

use std::time::Duration;

use anyhow::Context as _;

use self::{frames::Frames, source::Streams};
use crate::{
    aggregate::{Aggregate, History},
    bpf::{KernelConfig, KernelTracer},
    kernel::{self, Areas, Memory, Slabs},
    model::glob,
    profile::{MemoryKind, Remark},
    session::{Names, hold_signals},
    sources::marks::Marked,
};

/// What to count.
#[derive(Clone, Debug)]
pub struct KernelOptions {
    /// What the kernel side counts. Its list of caches is taken from `caches`.
    pub config: KernelConfig,
    /// Patterns for the names of caches; empty for all.
    pub caches: Vec<String>,
    /// The cgroup that the kernel side is limited to, by its path.
    pub cgroup: Option<String>,
    /// Only objects at least this old.
    pub older: Option<Duration>,
    /// Whether to list the objects of the stacks shown.
    pub show_allocs: bool,
}

/// The kernel's counters when tracing began.
struct Before {
    slabs: Slabs,
    percpu: Option<u64>,
    vmalloc: Option<Areas>,
    memory: Option<Memory>,
}

impl Before {
    fn read() -> Self {
        let slabs = kernel::slabs().unwrap_or_else(|error| {
            tracing::debug!("/proc/slabinfo: {error}");
            Slabs::default()
        });
        let memory = Memory::read();
        Self { slabs, percpu: kernel::meminfo("Percpu"), vmalloc: kernel::vmalloc_areas().ok(), memory }
    }
}

/// Owns programs and links: dropping it leaves no program attached.
pub struct KernelSession {
    tracer: KernelTracer,
    options: KernelOptions,
    before: Before,
    frames: Frames,
    names: Names,
    aggregate: Aggregate,
    /// What each cache held, for its rate.
    caches: History<(MemoryKind, Option<String>)>,
    started: Duration,
    remarks: Vec<Remark>,
    streams: Option<Streams>,
    marked: Marked,
}

impl KernelSession {
    /// Loads the kernel side and begins to trace. Signals that end a session are blocked from here on until it is followed.
    ///
    /// # Errors
    /// Missing privileges, or a kernel that lacks a feature: with advice. No cache matches the patterns.
    pub fn new(options: KernelOptions) -> anyhow::Result<Self> {
        hold_signals();
        let mut options = options;
        options.config.caches = wanted_caches(&options.caches)?;
        let mut tracer = KernelTracer::load(&options.config).map_err(|error| {
            let permission = error.is_permission();
            let error = anyhow::Error::new(error);
            if permission {
                error.context("this needs root (or CAP_BPF and CAP_PERFMON): try `sudo memtrace …`; `memtrace check` shows more")
            } else {
                error.context("this kernel rejects memtrace's eBPF programs for kernel mode")
            }
        })?;
        let remarks = remarks::of_start(&tracer, &options.config);
        let before = Before::read();
        tracer.attach(&options.config).context("cannot attach to the kernel's tracepoints")?;
        let started = tracer.elapsed();
        Ok(Self {
            tracer,
            options,
            before,
            frames: Frames::default(),
            names: Names::new(None),
            aggregate: Aggregate::default(),
            caches: History::default(),
            started,
            remarks,
            streams: None,
            marked: Marked::default(),
        })
    }

    /// Whether rows of a cache are shown. The kernel side filters most others, but does not know caches that are
    /// younger than the session.
    fn is_shown(&self, cache: Option<&str>) -> bool {
        let patterns = &self.options.caches;
        let Some(wanted) = &self.options.config.caches else { return true };
        cache.is_some_and(|name| match wanted.iter().find(|(known, _)| known == name) {
            Some((_, wanted)) => *wanted,
            None => fits(patterns, name),
        })
    }
}

/// Every existing cache, and whether a pattern matches it; `None` without patterns.
fn wanted_caches(patterns: &[String]) -> anyhow::Result<Option<Vec<(String, bool)>>> {
    if patterns.is_empty() {
        return Ok(None);
    }
    let slabs = kernel::slabs().context("cannot read /proc/slabinfo, which has the names for --cache")?;
    let aliases = kernel::aliases(&slabs);
    let caches: Vec<(String, bool)> = slabs
        .into_keys()
        .map(|name| {
            let by_alias = aliases.iter().any(|(alias, of)| *of == name && fits(patterns, alias));
            let wanted = by_alias || fits(patterns, &name);
            (name, wanted)
        })
        .collect();
    anyhow::ensure!(
        caches.iter().any(|(_, wanted)| *wanted),
        "no slab cache is called {}: /proc/slabinfo lists all (caches of similar objects are merged)",
        patterns.iter().map(|pattern| format!("{pattern:?}")).collect::<Vec<_>>().join(" or ")
    );
    Ok(Some(caches))
}

/// Whether a name matches one of the patterns.
fn fits(patterns: &[String], name: &str) -> bool {
    patterns.iter().any(|pattern| glob::matches(pattern, name))
}
