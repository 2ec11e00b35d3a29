//! Tables of many files at once, and each file's only once.

use std::collections::{HashSet, hash_map::Entry};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::{Error, Limits, Table};
use crate::elf::{FileId, Image};

/// What a file may take of the time for all; a 200 MB compiler takes a tenth of a second.
const FILE_TIME: Duration = Duration::from_secs(5);

/// A file's table, or why it has none.
pub type Built = Result<Arc<Table>, Arc<Error>>;

/// Files remembered. Most of more are of libraries that are gone.
const MAX_FILES: usize = 1 << 14;

/// The tables built so far, by file. Copies of a file, in containers for example, are each read, for a build id is what the
/// file's owner wrote there; they have one table all the same.
///
/// That a file has no table is remembered too, unless reading failed or the time that was left for it was short. Not
/// even a file made to be slow can take all the time, or take it twice: 5 s are the most for one.
#[derive(Debug)]
pub struct Cache {
    built: FxHashMap<FileId, Built>,
    /// Each different table once.
    tables: HashSet<Arc<Table>>,
    pub(super) file_time: Duration,
    pub(super) max_files: usize,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            built: FxHashMap::default(),
            tables: HashSet::default(),
            file_time: FILE_TIME,
            max_files: MAX_FILES,
        }
    }
}

impl Cache {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tables of these files, in their order, built on all processors.
    ///
    /// `progress` is called after every file with the numbers of files done and to do, from any thread. Files that
    /// were built before are not among them.
    pub fn build_all<'i>(
        &mut self,
        images: impl IntoIterator<Item = &'i Image>,
        limits: Limits,
        progress: impl Fn(usize, usize) + Sync,
    ) -> Vec<Built> {
        let id = |image: &Image| image.file_id().map_err(|error| Arc::new(Error::from(error)));
        let images: Vec<(&Image, Result<FileId, Arc<Error>>)> =
            images.into_iter().map(|image| (image, id(image))).collect();
        let mut jobs = FxHashMap::default();
        for (image, key) in &images {
            if let Ok(key) = key
                && !self.built.contains_key(key)
                && let Entry::Vacant(job) = jobs.entry(key)
            {
                job.insert(*image);
            }
        }
        let jobs: Vec<_> = jobs.into_iter().collect();
        let mut fresh = run(&jobs, |image| build(image, limits, self.file_time), &progress);
        for table in fresh.values_mut().flatten() {
            self.share(table);
        }
        let result = images
            .iter()
            .map(|(_, key)| {
                let key = key.as_ref().map_err(Arc::clone)?;
                let built = self.built.get(key).or_else(|| fresh.get(key));
                built.cloned().unwrap_or_else(|| Err(Arc::new(Error::Panic)))
            })
            .collect();
        let lasting = fresh.into_iter().filter(|(_, built)| is_lasting(built));
        self.built.extend(lasting.map(|(id, built)| (*id, built)));
        self.forget(&images);
        result
    }

    /// Replaces a table by an equal one that is known.
    fn share(&mut self, table: &mut Arc<Table>) {
        match self.tables.get(table) {
            Some(known) => *table = Arc::clone(known),
            None => {
                self.tables.insert(Arc::clone(table));
            }
        }
    }

    /// Where too many files are remembered, forgets those that are not among `images`.
    fn forget(&mut self, images: &[(&Image, Result<FileId, Arc<Error>>)]) {
        if self.built.len() <= self.max_files {
            return;
        }
        let needed: FxHashSet<&FileId> = images.iter().filter_map(|(_, id)| id.as_ref().ok()).collect();
        self.built.retain(|id, _| needed.contains(id));
        self.tables.retain(|table| Arc::strong_count(table) > 1);
    }
}

/// Whether building again would give the same.
fn is_lasting(built: &Built) -> bool {
    use crate::elf::Error as Elf;
    !matches!(
        built.as_ref().map_err(Arc::as_ref),
        Err(Error::TooSlow | Error::Image(Elf::Read { .. } | Elf::Metadata { .. }))
    )
}

fn run<'k>(
    jobs: &[(&'k FileId, &Image)],
    build: impl Fn(&Image) -> Built + Sync,
    progress: &(impl Fn(usize, usize) + Sync),
) -> FxHashMap<&'k FileId, Built> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let built = Mutex::new(FxHashMap::default());
    let work = || {
        while let Some((key, image)) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
            let table = build(image);
            built.lock().unwrap_or_else(PoisonError::into_inner).insert(*key, table);
            progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len());
        }
    };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(jobs.len());
    thread::scope(|scope| {
        for _ in 1..threads {
            // Where no thread can be had, this one does the work.
            if thread::Builder::new().name("unwind".into()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    built.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// The parser of a file of somebody else's must not take the session down, whatever it meets.
fn build(image: &Image, limits: Limits, file_time: Duration) -> Built {
    let own = Limits::within(file_time);
    let deadline = own.deadline.min(limits.deadline);
    let table = catch_unwind(AssertUnwindSafe(|| Table::build(image, Limits { deadline })));
    let table = match table.unwrap_or(Err(Error::Panic)) {
        Err(Error::TooSlow) if deadline < limits.deadline => Err(Error::Expensive { limit: file_time }),
        table => table,
    };
    table.map(Arc::new).map_err(Arc::new)
}
