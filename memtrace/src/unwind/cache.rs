//! Builds tables of many files at once, and each file's only once.

use std::collections::hash_map::Entry;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustc_hash::FxHashMap;

use super::{Error, Limits, Table};
use crate::elf::{FileId, Image};

/// The most time for one file; a 200 MB compiler takes a tenth of a second.
const FILE_TIME: Duration = Duration::from_secs(5);

/// A file's table, or why it has none.
pub type Built = Result<Arc<Table>, Arc<Error>>;

/// The key under which files have the same table.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// Copies of a file, for example in containers. The size distinguishes a file from a stripped one.
    BuildId(Vec<u8>, u64),
    File(FileId),
}

impl Key {
    fn of(image: &Image) -> Result<Self, Error> {
        let file = image.file_id()?;
        Ok(match image.build_id() {
            Ok(Some(id)) => Self::BuildId(id, file.size),
            _ => Self::File(file),
        })
    }
}

/// The tables built so far, by build id; by file if there is none.
///
/// Failures are cached too, unless reading failed or little time was left for the file. Not
/// even a file crafted to be slow can use up all the time, or use it twice: one gets at most 5 s.
#[derive(Debug)]
pub struct Cache {
    built: FxHashMap<Key, Built>,
    pub(super) file_time: Duration,
}

impl Default for Cache {
    fn default() -> Self {
        Self { built: FxHashMap::default(), file_time: FILE_TIME }
    }
}

impl Cache {
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
        let images: Vec<(&Image, Result<Key, Arc<Error>>)> =
            images.into_iter().map(|image| (image, Key::of(image).map_err(Arc::new))).collect();
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
        let fresh = run(&jobs, |image| build(image, limits, self.file_time), &progress);
        let result = images
            .iter()
            .map(|(_, key)| {
                let key = key.as_ref().map_err(Arc::clone)?;
                let built = self.built.get(key).or_else(|| fresh.get(key));
                built.cloned().unwrap_or_else(|| Err(Arc::new(Error::Panic)))
            })
            .collect();
        let lasting = fresh.into_iter().filter(|(_, built)| is_lasting(built));
        self.built.extend(lasting.map(|(key, built)| (key.clone(), built)));
        result
    }
}

/// Whether building again would have the same result.
fn is_lasting(built: &Built) -> bool {
    use crate::elf::Error as Elf;
    !matches!(
        built.as_ref().map_err(Arc::as_ref),
        Err(Error::TooSlow | Error::Image(Elf::Read { .. } | Elf::Metadata { .. }))
    )
}

fn run<'k>(
    jobs: &[(&'k Key, &Image)],
    build: impl Fn(&Image) -> Built + Sync,
    progress: &(impl Fn(usize, usize) + Sync),
) -> FxHashMap<&'k Key, Built> {
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
            // If no thread can be started, this one does the work.
            if thread::Builder::new().name("unwind".into()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    built.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Parsing a stranger's file must not end the session, whatever it contains.
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
