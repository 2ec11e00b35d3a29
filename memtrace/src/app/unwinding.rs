//! Unwind tables of traced processes: built per file, placed in the kernel side once, listed per process.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Context as _;
use memtrace_common::{Module as CodeRange, Row};
use rustc_hash::FxHashMap;

use crate::{
    bpf::Tracer,
    target::Modules,
    unwind::{Built, Cache, Limits, Table},
};

/// Time for all tables of a process. A hostile file can take no more of it than all of it.
const DEADLINE: Duration = Duration::from_secs(20);
/// Work shorter than this goes without a word; then one a second.
const SILENCE: Duration = Duration::from_secs(1);

/// Hears of progress on long work.
pub type Progress = fn(&str);

/// What is built and placed.
#[derive(Default)]
pub(super) struct Unwinding {
    cache: Cache,
    /// First row in the kernel side's table, by the table's address. The tables are kept, so the addresses stay theirs.
    placed: FxHashMap<usize, (Arc<Table>, u32)>,
}

impl Unwinding {
    /// Gives the kernel side what it needs to walk stacks of a process whose mappings are `modules`, read when the
    /// count of unloadings was `unloaded`. Returns remarks for the reader.
    pub(super) fn update(
        &mut self,
        tracer: &mut Tracer,
        target: u32,
        modules: &Modules,
        unloaded: u64,
        progress: Progress,
    ) -> anyhow::Result<Vec<String>> {
        let files: Vec<_> = modules.iter().filter(|module| module.image().is_some()).collect();
        let images = files.iter().filter_map(|module| module.image());
        let start = Instant::now();
        let said = AtomicU64::new(0);
        let built = self.cache.build_all(images, Limits::within(DEADLINE), |done, all| {
            let seconds = start.elapsed().as_secs();
            if start.elapsed() >= SILENCE && said.fetch_max(seconds, Ordering::Relaxed) < seconds {
                progress(&format!("reading unwind information: {done} of {all} files"));
            }
        });
        tracing::debug!("unwind tables of {} files in {} ms", files.len(), start.elapsed().as_millis());
        let mut remarks = Vec::new();
        let mut tables = FxHashMap::default();
        for (module, built) in files.iter().zip(built) {
            match self.place(tracer, built)? {
                Ok(place) => {
                    tables.insert(Arc::as_ptr(module), place);
                }
                Err(why) => {
                    tracing::debug!("no unwind table for {}: {why}", module.name);
                    remarks.extend(why.strip_prefix("! ").map(|why| format!("{}: {why}", module.name)));
                }
            }
        }
        let ranges: Vec<CodeRange> = modules
            .mapped()
            .map(|(range, bias, module)| {
                let (bias, first, rows) = match (tables.get(&Arc::as_ptr(module)), bias) {
                    (Some((table, first)), Some(bias)) => {
                        (bias.wrapping_add(table.base()), *first, table.rows().len() as u32)
                    }
                    _ if &*module.name == ANONYMOUS => (0, CodeRange::JIT, 0),
                    _ => (0, CodeRange::NO_TABLE, 0),
                };
                CodeRange { begin: range.start, end: range.end, bias, first, rows }
            })
            .collect();
        let rows: usize = tables.values().map(|(table, _)| table.rows().len()).sum();
        tracing::debug!("{rows} unwind rows, {} KiB in the kernel", rows * size_of::<Row>() / 1024);
        let left_out = tracer.set_modules(target, &ranges, unloaded).context("cannot write unwind tables")?;
        if left_out != 0 {
            remarks
                .push(format!("{left_out} executable mappings found no room: stacks through them end there"));
        }
        Ok(remarks)
    }

    /// The table and its first row in the kernel side; or why there is none, with a mark where the reader of the
    /// report should hear of it.
    fn place(
        &mut self,
        tracer: &mut Tracer,
        built: Built,
    ) -> anyhow::Result<Result<(Arc<Table>, u32), String>> {
        let table = match built {
            Ok(table) => table,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let key = Arc::as_ptr(&table) as usize;
        let first = match self.placed.get(&key) {
            Some((_, first)) => Some(*first),
            None => {
                let first = tracer.add_rows(table.rows()).context("cannot write unwind tables")?;
                if let Some(first) = first {
                    self.placed.insert(key, (Arc::clone(&table), first));
                }
                first
            }
        };
        Ok(first.map(|first| (table, first)).ok_or_else(|| {
            "! no room for its unwind table: stacks through it end there, unless it keeps frame pointers"
                .to_owned()
        }))
    }
}

/// The name of memory without a file.
const ANONYMOUS: &str = "[anon]";
