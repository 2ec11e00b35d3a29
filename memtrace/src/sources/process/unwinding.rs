//! Unwind tables of traced processes: built per file, stored in the kernel side once, listed per process.

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
    profile::{Remark, elide},
    target::Modules,
    unwind::{Cache, Limits, Table},
};

/// Time for all tables of a process. A hostile file can use up all of it, but no more.
const DEADLINE: Duration = Duration::from_secs(20);
/// Bytes of a file's name in a remark.
const SHOWN: usize = 200;
/// Work shorter than this is not announced; longer work is, once a second.
const SILENCE: Duration = Duration::from_secs(1);

/// Called with the progress of long work.
pub type Progress = fn(&str);

/// The tables that are built and stored.
#[derive(Default)]
pub(super) struct Unwinding {
    cache: Cache,
    /// First row in the kernel side's table, by the table's address. The tables are kept, so the addresses stay theirs.
    placed: FxHashMap<usize, (Arc<Table>, u32)>,
    /// Where [`TRAMPOLINE`] is there.
    trampoline: Option<u32>,
}

/// Trampolines of CPython: the frame is 16 bytes after the call in them, all of them alike.
const TRAMPOLINE: Row = Row { pc: 0, cfa: 2, kind: Row::SP, fp: Row::SAME };

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
    ) -> anyhow::Result<Vec<Remark>> {
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
            let table = match built {
                Ok(table) => table,
                Err(error) => {
                    tracing::debug!("no unwind table for {}: {error}", module.name);
                    continue;
                }
            };
            match self.place(tracer, &table)? {
                Some(first) => {
                    tables.insert(Arc::as_ptr(module), (table, first));
                }
                None => remarks.push(Remark::NoUnwindTable { file: elide(&module.name, SHOWN).into_owned() }),
            }
        }
        if self.trampoline.is_none() && modules.mapped().any(|(range, ..)| modules.is_trampoline(range.start))
        {
            self.trampoline = tracer.add_rows(&[TRAMPOLINE]).context("cannot write unwind tables")?;
        }
        let ranges: Vec<CodeRange> = modules
            .mapped()
            .map(|(range, bias, module)| {
                let (bias, first, rows) = match (tables.get(&Arc::as_ptr(module)), bias) {
                    (Some((table, first)), Some(bias)) => {
                        (bias.wrapping_add(table.base()), *first, table.rows().len() as u32)
                    }
                    _ if &*module.name == ANONYMOUS => match self.trampoline {
                        Some(first) if modules.is_trampoline(range.start) => (range.start, first, 1),
                        _ => (0, CodeRange::JIT, 0),
                    },
                    _ => (0, CodeRange::NO_TABLE, 0),
                };
                CodeRange { begin: range.start, end: range.end, bias, first, rows }
            })
            .collect();
        let rows: usize = tables.values().map(|(table, _)| table.rows().len()).sum();
        tracing::debug!("{rows} unwind rows, {} KiB in the kernel", rows * size_of::<Row>() / 1024);
        let left_out = tracer.set_modules(target, &ranges, unloaded).context("cannot write unwind tables")?;
        if left_out != 0 {
            remarks.push(Remark::MappingsLeftOut { mappings: left_out as u64 });
        }
        Ok(remarks)
    }

    /// The first row of a table in the kernel side; `None` if it does not fit.
    fn place(&mut self, tracer: &mut Tracer, table: &Arc<Table>) -> anyhow::Result<Option<u32>> {
        let key = Arc::as_ptr(table) as usize;
        if let Some((_, first)) = self.placed.get(&key) {
            return Ok(Some(*first));
        }
        let first = tracer.add_rows(table.rows()).context("cannot write unwind tables")?;
        if let Some(first) = first {
            self.placed.insert(key, (Arc::clone(table), first));
        }
        Ok(first)
    }
}

/// The name of memory without a file.
const ANONYMOUS: &str = "[anon]";
