//! A saved report as a [`Source`]: it is shown once, with the names that it was saved with.

use std::path::Path;

use anyhow::Context as _;

use crate::{
    profile::{Dictionary, Profile, Saved, VERSION},
    saved::{Reader, Tail},
    session::{Draft, Ending, Names, Source, Step, Wanted},
};

/// The limit of memory: contents can be crafted to inflate to far more than the file. No real session needs that much.
const MEMORY: u64 = 4 << 30;

/// One report of a file.
pub struct SavedReport {
    names: Names,
    profile: Profile,
    tail: Tail,
    is_shown: bool,
}

impl SavedReport {
    /// Reads a file up to a report, counted from 1; without a number, up to the last.
    ///
    /// # Errors
    /// It is not a file of saved reports, cannot be read, or has no such report.
    pub fn open(path: &Path, at: Option<u64>) -> anyhow::Result<Self> {
        bound_memory();
        let mut reader = Reader::open(path, VERSION)?;
        let mut dictionary = Dictionary::default();
        let mut profile = None;
        let mut read = 0;
        while at.is_none_or(|at| read < at) {
            let Some(Saved { gained, profile: next }) = reader.next::<Saved>()? else { break };
            let checked = dictionary.apply(gained).and_then(|()| next.check(&dictionary));
            checked.with_context(|| format!("{} is damaged", path.display()))?;
            profile = Some(next);
            read += 1;
        }
        if let Some(at) = at.filter(|&at| at != read) {
            anyhow::bail!("{} has no report {at}: it has {read}", path.display());
        }
        let Some(profile) = profile else { anyhow::bail!("{} has no complete report", path.display()) };
        let tail = reader.tail();
        Ok(Self { names: Names::known(dictionary), profile, tail, is_shown: false })
    }

    /// What comes after the report, if it is the last one that could be read.
    #[must_use]
    pub fn tail(&self) -> Tail {
        self.tail
    }

    /// The dictionary and the report.
    #[must_use]
    pub fn parts(&self) -> (&Dictionary, &Profile) {
        (self.names.dictionary(), &self.profile)
    }
}

/// Files may come from strangers.
fn bound_memory() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let hard = getrlimit(Resource::RLIMIT_DATA).map_or(MEMORY, |(_, hard)| hard);
    if let Err(error) = setrlimit(Resource::RLIMIT_DATA, MEMORY.min(hard), hard) {
        tracing::debug!("memory is not limited: {error}");
    }
}

impl Source for SavedReport {
    fn begin(&mut self) -> anyhow::Result<()> {
        Ok(())
    }

    async fn due(&mut self, _: bool) -> anyhow::Result<()> {
        Ok(())
    }

    fn step(&mut self, _: &mut Vec<Draft>) -> anyhow::Result<Step> {
        let was_shown = std::mem::replace(&mut self.is_shown, true);
        Ok(if was_shown { Step::End(Ending::Done) } else { Step::Report })
    }

    fn take(&mut self, _: &mut Vec<Draft>) -> anyhow::Result<bool> {
        Ok(true)
    }

    fn has_ended(&self) -> bool {
        true
    }

    fn report(&mut self, _: bool, wanted: Wanted<'_>) -> anyhow::Result<Draft> {
        Ok(Draft::report(self.profile.clone(), &mut self.names, wanted))
    }

    fn names(&mut self) -> &mut Names {
        &mut self.names
    }
}
