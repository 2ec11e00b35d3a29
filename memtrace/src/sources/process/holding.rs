//! Keeps probes in place: a living thread holds them, and their breakpoints are in the code.

use std::{num::NonZeroU32, path::PathBuf, time::Duration};

use anyhow::Context as _;

use super::{traced::Traced, watchdog::Watchdog};
use crate::{
    bpf::{InPlace, Tracer},
    model::{ProbeSpec, Role},
    profile::Renewal,
    target::{
        text::{self, Backing, Code},
        threads,
    },
};

/// The most threads to try, if each ends meanwhile.
const ATTEMPTS: usize = 3;

/// The most threads that become holders between two turns of the watchdog: the anchors of each stay until then.
const MOST_CHANGES: u32 = 8;

/// What holds a target's probes.
#[derive(Debug, Default)]
pub(super) struct Holding {
    /// The thread that holds them, if that is not the main thread.
    thread: Option<u32>,
    /// Where breakpoints should be.
    sites: Vec<Site>,
    /// When all were last known to be there.
    intact: Duration,
    /// How often another thread became the holder since the last turn.
    changes: u32,
    /// The error of an attach that failed and is still needed.
    owed: Option<InPlace>,
    /// What had to be done and has not been reported yet.
    pub(super) renewals: Vec<Renewed>,
    /// How often that was.
    pub(super) times: usize,
    pub(super) watchdog: Watchdog,
}

/// A probed instruction in memory.
#[derive(Debug)]
struct Site {
    file: PathBuf,
    offset: u64,
    original: u8,
    address: u64,
    role: Role,
}

/// Probes were reattached because those in place no longer fired.
#[derive(Clone, Copy, Debug)]
pub(super) struct Renewed {
    pub(super) why: Renewal,
    /// When they may have stopped firing and when they fired again, since the start of tracing.
    pub(super) from: Duration,
    pub(super) to: Duration,
}

/// What was found at the addresses of breakpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Findings {
    /// Breakpoints in place.
    pub(super) probed: usize,
    /// Instructions without theirs.
    pub(super) plain: usize,
    /// Instructions that run from a copy, which cannot be probed.
    pub(super) copied: usize,
}

impl Findings {
    /// Instructions that still run.
    pub(super) fn all(self) -> usize {
        self.probed + self.plain + self.copied
    }
}

impl Traced {
    /// Whether a thread other than the main one holds its probes.
    pub(super) fn is_held(&self) -> bool {
        self.holding.thread.is_some()
    }

    /// The thread that holds its probes.
    pub(super) fn holder(&self) -> u32 {
        self.holding.thread.unwrap_or(self.pid().get())
    }

    /// Makes sure that a living thread holds the probes. `since`: when the previous holder ended, if that just happened.
    pub(super) fn hold(&mut self, tracer: &mut Tracer, since: Option<Duration>) -> anyhow::Result<()> {
        let is_owed = self.holding.owed.is_some();
        if !is_owed && threads::lives(self.pid().get(), self.holder()) {
            return Ok(());
        }
        if is_owed || !tracer.outlives_holder() {
            return self.renew(tracer, Renewal::ThreadEnded, since);
        }
        if since.is_some() && self.holding.changes >= MOST_CHANGES {
            // Threads end one after the other. Usually nothing is missed until the next turn.
            return Ok(());
        }
        self.holding.changes += 1;
        let was = tracer.in_place(self.index);
        let since = since.unwrap_or(self.holding.intact);
        // While no thread held them, another tracer may have removed them.
        let missing = was.counts() && self.examine(tracer, false).plain > 0;
        self.by_living(tracer, |target, tracer| {
            let specs = target.specs_of(was);
            let hook = target.modules.loader_hook().filter(|_| was.loader);
            tracer.anchor_again(target.index, &specs, hook.as_ref()).context("cannot hold its probes")
        })?;
        tracing::debug!("process {}: thread {} holds its probes", self.pid(), self.holder());
        if missing {
            self.holding.renewals.push(Renewed { why: Renewal::Removed, from: since, to: tracer.elapsed() });
        }
        Ok(())
    }

    /// A turn of the watchdog: drops the anchors of threads that have ended, if the holder lives.
    pub(super) fn settle(&mut self, tracer: &mut Tracer) {
        self.holding.changes = 0;
        if threads::lives(self.pid().get(), self.holder()) {
            tracer.give_up_superseded(self.index);
        }
    }

    /// Reattaches probes with a living thread.
    pub(super) fn renew(
        &mut self,
        tracer: &mut Tracer,
        why: Renewal,
        since: Option<Duration>,
    ) -> anyhow::Result<()> {
        let was = self.holding.owed.take().unwrap_or_else(|| tracer.in_place(self.index));
        let from = since.unwrap_or(self.holding.intact);
        if why != Renewal::ThreadEnded {
            // Some may fire still: each call would count twice.
            tracer.release_at_once(self.index);
        } else {
            tracer.release(self.index);
        }
        let placed = self.by_living(tracer, |target, tracer| target.place_again(tracer, was));
        if placed.is_err() {
            self.holding.owed = Some(was);
        } else if was.counts() {
            let renewal = Renewed { why, from, to: tracer.elapsed() };
            tracing::debug!("process {}: attached by thread {}: {renewal:?}", self.pid(), self.holder());
            self.holding.renewals.push(renewal);
            self.holding.intact = renewal.to;
        }
        placed
    }

    /// Does something with a living thread as the holder; with another one if it ends meanwhile. A process that has none
    /// is left alone.
    fn by_living(
        &mut self,
        tracer: &mut Tracer,
        action: impl Fn(&Self, &mut Tracer) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let pid = self.pid().get();
        for attempt in 1.. {
            let Some(thread) = threads::living(pid) else { break };
            self.holding.thread = Some(thread).filter(|&thread| thread != pid);
            tracer.hold_by(self.index, self.holding.thread.and_then(NonZeroU32::new))?;
            let done = action(self, tracer);
            if done.is_ok() || attempt == ATTEMPTS || threads::lives(pid, thread) {
                return done;
            }
        }
        Ok(())
    }

    /// Takes breakpoints out of children that inherited them. The probes need a living thread that holds them.
    ///
    /// # Errors
    /// As [`Tracer::sweep`].
    pub(super) fn sweep(&self, tracer: &mut Tracer) -> anyhow::Result<()> {
        let was = tracer.in_place(self.index);
        if was.allocations || was.frees {
            tracer.sweep(self.index, self.pid(), &self.specs_of(was))?;
        }
        Ok(())
    }

    fn specs_of(&self, was: InPlace) -> Vec<ProbeSpec> {
        self.specs.iter().filter(|spec| was.has(spec.role)).cloned().collect()
    }

    /// Attaches everything or nothing.
    fn place_again(&self, tracer: &mut Tracer, was: InPlace) -> anyhow::Result<()> {
        let specs = self.specs_of(was);
        if !specs.is_empty() {
            // Calls in flight may have returned unseen.
            tracer.begin_window(self.index);
        }
        let hook = self.modules.loader_hook().filter(|_| was.loader);
        tracer
            .attach(self.index, self.pid(), &specs)
            .and_then(|()| hook.map_or(Ok(()), |hook| tracer.watch_loader(self.index, self.pid(), &hook)))
            .inspect_err(|_| tracer.release_at_once(self.index))
            .with_context(|| format!("cannot attach to process {} again", self.pid()))
    }

    /// Everything is being reattached in another way: nothing is pending.
    pub(super) fn forgive(&mut self) {
        self.holding.owed = None;
    }

    /// Detaches everything: an `execve` by a thread other than the main one has made that thread the main one.
    pub(super) fn give_back(&mut self, tracer: &mut Tracer) {
        let was_held = self.holding.thread.take().is_some();
        if was_held && !tracer.outlives_holder() {
            // They may be held by what is now the main thread, and would fire besides the new ones.
            tracer.release_at_once(self.index);
        } else {
            tracer.release(self.index);
        }
        if let Err(error) = tracer.hold_by(self.index, None) {
            tracing::debug!("{error}");
        }
    }

    /// Another program runs: its code is elsewhere.
    pub(super) fn forget_sites(&mut self, tracer: &Tracer) {
        self.holding.sites.clear();
        self.holding.intact = tracer.elapsed();
    }

    /// Whether the addresses of breakpoints are known.
    pub(super) fn has_sites(&self) -> bool {
        !self.holding.sites.is_empty()
    }

    /// Checks whether the breakpoints are in the code. `thorough`: reads the mappings again first, as also happens when
    /// one is missing.
    pub(super) fn examine(&mut self, tracer: &Tracer, thorough: bool) -> Findings {
        if thorough {
            self.refresh(tracer);
        }
        self.add_sites();
        let in_place = tracer.in_place(self.index);
        let mut findings = self.findings(in_place);
        if findings.plain > 0 && !thorough {
            self.refresh(tracer);
            self.add_sites();
            findings = self.findings(in_place);
        }
        if findings.plain == 0 {
            self.holding.intact = tracer.elapsed();
        }
        findings
    }

    /// Updates the addresses of breakpoints, now that other code may be mapped.
    pub(super) fn add_sites(&mut self) {
        let mut file = None;
        for spec in &self.specs {
            if file.as_ref().is_none_or(|(path, _)| path != &spec.file) {
                file = Some((spec.file.clone(), self.modules.addresses(&spec.file)));
            }
            let Some((_, addresses)) = &file else { continue };
            for offset in spec.offsets() {
                for address in addresses(offset) {
                    let known = |site: &Site| {
                        site.address == address && site.offset == offset && site.file == spec.file
                    };
                    if self.holding.sites.iter().any(known) {
                        continue;
                    }
                    if let Ok(original) = text::file_byte(&spec.file, offset) {
                        let (file, role) = (spec.file.clone(), spec.role);
                        self.holding.sites.push(Site { file, offset, original, address, role });
                    }
                }
            }
        }
    }

    /// What is in the code where breakpoints should be. In windows some probes are not attached.
    fn findings(&mut self, in_place: InPlace) -> Findings {
        let mut findings = Findings::default();
        let addresses = self.holding.sites.iter().map(|site| site.address);
        let Ok(bytes) = text::memory_bytes(self.pid().get(), addresses) else { return findings };
        let mut bytes = bytes.into_iter();
        let modules = &self.modules;
        self.holding.sites.retain(|site| {
            let backing = match modules.backing(&site.file, site.address) {
                // Code that was generated at run time may be where a library was.
                Backing::Anonymous if !modules.addresses(&site.file)(site.offset).is_empty() => {
                    Backing::Other
                }
                backing => backing,
            };
            match text::judge(bytes.next().flatten(), site.original, backing) {
                Code::Probed => findings.probed += 1,
                Code::Plain if !in_place.has(site.role) => {}
                Code::Plain => findings.plain += 1,
                Code::Copied => findings.copied += 1,
                Code::Gone => return false,
            }
            true
        });
        findings
    }
}
