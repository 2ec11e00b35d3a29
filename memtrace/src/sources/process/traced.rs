//! One traced process: from addresses in it to places in files.

use std::{
    io,
    num::NonZeroU32,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use memtrace_common::{EXACT, Target, WalkMethod};
use rustc_hash::FxHashMap;

use crate::{
    allocators,
    bpf::Tracer,
    model::{ProbeSpec, Role, Site},
    profile::{Remark, Renewal},
    target::{self, FileStore, Location, Module, Modules, Process},
};

use super::{
    following::Origin,
    held::HeldFiles,
    holding::Holding,
    passage::{AllocatorCode, Passage},
    sites::{Placement, find_allocator},
    untraced::{Part, Untraced},
    unwinding::{Progress, Unwinding},
};

/// Code outside all mappings makes the programs ask repeatedly: mappings are read at most this often.
const PATIENCE: Duration = Duration::from_millis(200);

/// A traced process.
pub(super) struct Traced {
    pub(super) process: Process,
    pub(super) index: u32,
    pub(super) generation: u32,
    /// The generation before which blocks have been cleared from the table, and when that was done last.
    pub(super) forgotten: (u32, Option<Instant>),
    pub(super) allocators: Vec<String>,
    pub(super) modules: Modules,
    /// When the mappings were last read in vain.
    unchanged: Option<Instant>,
    /// Where libraries come and go.
    unstable: Option<Range<u64>>,
    /// The dynamic loader of the program that it runs now.
    loader: Option<PathBuf>,
    /// Loaders that are probed.
    hooked: HeldFiles,
    /// Files that were searched for allocators, and are mapped or have some.
    pub(super) probed: HeldFiles,
    /// What could not be probed.
    pub(super) untraced: Untraced,
    /// Allocators in files that were probed.
    pub(super) names: FxHashMap<PathBuf, String>,
    /// What is probed, to attach to again.
    pub(super) specs: Vec<ProbeSpec>,
    /// Allocating functions that are not probed, by file.
    left_out: Vec<(PathBuf, String)>,
    /// Where the functions of allocators lie.
    pub(super) code: AllocatorCode,
    /// CPU time when tracing began, and when it was last asked for.
    cpu: (Duration, Duration),
    pub(super) placement: Placement,
    pub(super) holding: Holding,
    pub(super) origin: Origin,
}

impl Traced {
    /// Looks at a process; nothing is attached yet.
    pub(super) fn new(
        process: Process,
        index: u32,
        placement: Placement,
        files: &Arc<FileStore>,
    ) -> anyhow::Result<Self> {
        let pid = process.pid;
        let cpu = process.cpu_time().unwrap_or_default();
        let modules = Modules::read(pid.get(), files).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => target::Error::Exited(pid.get()).into(),
            _ => anyhow::Error::new(error).context(format!("cannot read the mappings of process {pid}")),
        })?;
        Ok(Self {
            process,
            index,
            generation: 0,
            forgotten: (0, None),
            allocators: Vec::new(),
            modules,
            unchanged: None,
            unstable: None,
            loader: None,
            hooked: HeldFiles::default(),
            probed: HeldFiles::default(),
            untraced: Untraced::default(),
            names: FxHashMap::default(),
            specs: Vec::new(),
            left_out: Vec::new(),
            code: AllocatorCode::default(),
            cpu: (cpu, cpu),
            placement,
            holding: Holding::default(),
            origin: Origin::default(),
        })
    }

    pub(super) fn pid(&self) -> NonZeroU32 {
        self.process.pid
    }

    /// Index and generation, as the kernel side marks stacks.
    pub(super) fn id(&self) -> u32 {
        Target::id(self.index, self.generation)
    }

    /// Attaches probes to the allocators in files that have not been searched yet. Returns their number.
    ///
    /// # Errors
    /// The first attach that was refused. The others succeed, and the failure is recorded in `untraced`.
    pub(super) fn attach(&mut self, tracer: &mut Tracer) -> anyhow::Result<usize> {
        self.attach_except(tracer, &[])
    }

    /// The same, and to `again` though they were looked at.
    fn attach_except(&mut self, tracer: &mut Tracer, again: &[PathBuf]) -> anyhow::Result<usize> {
        self.forget_unmapped();
        let mut found = 0;
        let mut refused = None;
        let modules: Vec<_> = self.modules.iter().cloned().collect();
        for module in modules {
            let Some(path) = module.path() else { continue };
            if module.image().is_none() {
                continue;
            }
            if !self.probed.insert(path.clone(), &module) && !again.contains(&path) {
                // `execve` may have mapped it again.
                if let Some(name) = self.names.get(&path).filter(|name| !self.allocators.contains(name)) {
                    self.allocators.push(name.clone());
                }
                continue;
            }
            let attached = self.attach_file(tracer, &module, &path);
            self.code.add_threads(&module, matches!(attached, Ok(true)));
            match attached {
                Ok(true) => found += 1,
                Ok(false) => {}
                Err(error) => {
                    if !self.process.has_exited() {
                        let name = format!("the allocator in {}", module.name);
                        self.untraced.failed(Part::File(path), &name, &error, tracer.elapsed());
                    }
                    refused.get_or_insert(error);
                }
            }
        }
        if found > 0 || !self.has_sites() {
            self.add_sites();
        }
        refused.map_or(Ok(found), Err)
    }

    /// Attaches probes to the allocator in a file, if it has one.
    fn attach_file(
        &mut self,
        tracer: &mut Tracer,
        module: &Arc<Module>,
        path: &Path,
    ) -> anyhow::Result<bool> {
        let process = (self.pid().get(), &self.modules);
        let Placement { returns, choice, .. } = &self.placement;
        let Some(found) = find_allocator(process, module, *returns, choice) else { return Ok(false) };
        let allocator = match found.as_ref() {
            Ok(allocator) => allocator,
            Err(error @ allocators::Error::Elf { .. }) => {
                tracing::warn!("{} was not searched for an allocator: {error}", module.name);
                return Ok(false);
            }
            Err(error) => {
                tracing::trace!("{}: {error}", module.name);
                return Ok(false);
            }
        };
        let specs = self.placement.place(allocator.specs.clone());
        for spec in &specs {
            let Site { delta, emulated } = spec.site;
            let cost = if emulated { "emulated" } else { "single-stepped" };
            tracing::debug!("probe {}+{delta:#x} ({cost}) in {}", spec.function, module.name);
        }
        for note in &allocator.notes {
            tracing::debug!("{}: {note}", module.name);
        }
        for function in &allocator.left_out {
            self.left_out.push((path.to_owned(), format!("{function} in {}", module.name)));
        }
        self.hold(tracer, None)?;
        if self.forget_earlier(module) {
            self.renew(tracer, Renewal::Rewritten, None)?;
        }
        tracer
            .attach(self.index, self.pid(), &specs)
            .with_context(|| format!("cannot probe {}", module.name))?;
        self.untraced.succeeded(&Part::File(path.to_owned()), tracer.elapsed());
        self.code.add(module, allocator.code.clone(), allocator.is_allocator_alone);
        self.specs.extend(specs);
        self.names.insert(path.to_owned(), allocator.name.clone());
        self.allocators.push(allocator.name.clone());
        Ok(true)
    }

    /// Retries refused attaches; those that fail again are recorded in `untraced`.
    pub(super) fn attach_refused(&mut self, tracer: &mut Tracer) {
        let due: Vec<Part> = self.untraced.due(tracer.elapsed()).cloned().collect();
        let mut files = Vec::new();
        for part in due {
            match part {
                Part::File(path) => files.push(path),
                Part::All => {
                    let _ = self.attach_again(tracer, true);
                }
            }
        }
        if !files.is_empty() {
            let _ = self.attach_except(tracer, &files);
        }
    }

    /// Allocating functions of the program and its libraries that are not traced: why, and in which file.
    pub(super) fn left_out(&self) -> impl Iterator<Item = &str> {
        let is_mapped = |path| self.modules.iter().any(|module| module.path().as_ref() == Some(path));
        self.left_out.iter().filter(move |(path, _)| is_mapped(path)).map(|(_, function)| function.as_str())
    }

    /// CPU time that it has used since tracing began. For a process that is gone: up to the last read.
    pub(super) fn cpu_time(&mut self) -> Duration {
        if let Some(now) = self.process.cpu_time() {
            self.cpu.1 = now;
        }
        self.cpu.1.saturating_sub(self.cpu.0)
    }

    /// Attaches again after a pause, to functions that map memory too if `mappings` are wanted and not in place.
    ///
    /// # Errors
    /// The kernel refused: nothing is attached, which is recorded in `untraced`.
    pub(super) fn attach_again(&mut self, tracer: &mut Tracer, mappings: bool) -> anyhow::Result<()> {
        self.forgive();
        self.hold(tracer, None)?;
        tracer.begin_window(self.index);
        let mappings = mappings && !tracer.in_place(self.index).mappings;
        let wanted = |spec: &&ProbeSpec| mappings || !matches!(spec.role, Role::Map(_));
        let specs: Vec<ProbeSpec> = self.specs.iter().filter(wanted).cloned().collect();
        let attached = tracer
            .attach(self.index, self.pid(), &specs)
            .with_context(|| format!("cannot attach to process {} again", self.pid()));
        match &attached {
            Ok(()) => self.untraced.succeeded(&Part::All, tracer.elapsed()),
            Err(_) if self.process.has_exited() => {}
            Err(error) => self.untraced.failed(Part::All, "the allocator", error, tracer.elapsed()),
        }
        attached
    }

    /// What a stack goes through.
    pub(super) fn passage(&self, places: &[Location]) -> Passage {
        self.code.passage(places)
    }

    /// Reads the mappings again. A process that is gone leaves what was known.
    pub(super) fn refresh(&mut self, tracer: &Tracer) {
        if let Err(error) = self.modules.refresh(|| tracer.unloaded(self.index)) {
            tracing::debug!("mappings of process {}: {error}", self.pid());
        }
    }

    /// Reads the mappings again and gives the kernel side the unwind tables of what is new. `asked`: because of code
    /// in an unknown place. Returns remarks for the reader.
    pub(super) fn refresh_unwinding(
        &mut self,
        tracer: &mut Tracer,
        unwinding: &mut Unwinding,
        progress: Progress,
        asked: bool,
    ) -> anyhow::Result<Vec<Remark>> {
        if asked && self.unchanged.is_some_and(|since| since.elapsed() < PATIENCE) {
            return Ok(Vec::new());
        }
        let unloaded = tracer.unloaded(self.index);
        let before: Vec<_> = self.modules.mapped().map(|(range, _, _)| range).collect();
        self.refresh(tracer);
        self.widen_unstable(tracer);
        let same = self.modules.mapped().map(|(range, _, _)| range).eq(before);
        self.unchanged = (asked && same).then(Instant::now);
        self.watch_loader(tracer);
        unwinding.update(tracer, self.index, &self.modules, unloaded, progress)
    }

    /// Tells the kernel side where libraries come and go, before it is given the libraries.
    fn widen_unstable(&mut self, tracer: &Tracer) {
        let Some(seen) = self.modules.unstable() else { return };
        let known = self.unstable.clone().unwrap_or(seen.clone());
        let wider = known.start.min(seen.start)..known.end.max(seen.end);
        if self.unstable.as_ref() != Some(&wider) {
            tracer.set_unstable(self.index, &wider);
            self.unstable = Some(wider);
        }
    }

    /// Watches the dynamic loader, once per program that the process runs.
    fn watch_loader(&mut self, tracer: &mut Tracer) {
        let Some(hook) = self.modules.loader_hook() else { return };
        if self.loader.as_ref() == Some(&hook.file) {
            return;
        }
        tracer.set_loader_state(self.index, hook.state);
        if let Err(error) = self.hold(tracer, None) {
            tracing::debug!("{error:#}");
        }
        if let Some(module) = self.modules.at(&hook.file)
            && self.hooked.insert(hook.file.clone(), module)
            && let Err(error) = tracer.watch_loader(self.index, self.pid(), &hook)
        {
            tracing::debug!("the dynamic loader of process {} is not watched: {error}", self.pid());
        }
        self.loader = Some(hook.file);
    }

    /// `execve`: another program, other mappings.
    pub(super) fn exec(&mut self, generation: u32, by_thread: bool, tracer: &mut Tracer) {
        self.generation = generation;
        if by_thread || self.is_held() {
            // The kernel identifies the process by the task that was the main thread and is gone.
            self.give_back(tracer);
            self.probed.clear();
            self.hooked.clear();
            self.names.clear();
            self.specs.clear();
            self.left_out.clear();
            self.code = AllocatorCode::default();
        }
        self.allocators.clear();
        for file in self.untraced.begin_again(by_thread) {
            self.probed.remove(&file);
        }
        self.forget_sites(tracer);
        self.loader = None;
        // Files of the new program that the old one had mapped too are already probed.
        self.modules.begin_again(tracer.unloaded(self.index));
        self.refresh(tracer);
        if let Ok(process) = Process::open(self.pid().get()) {
            self.process.comm = process.comm;
        }
    }

    /// Places of a stack's addresses, innermost first, and whether the stack is complete as far as the agent can determine.
    ///
    /// A walk by call frame information is trusted: an address outside all known mappings is kept as it is. Only past a
    /// frame that a signal interrupted, whose rule may belong to another instruction, a frame must follow a call; so must
    /// every frame but the first that was found by frame pointers. The stack ends before one that does not.
    /// `unloaded`: the count of unloadings at the walk, `unknown`: the kernel side knew no module of the last address.
    /// Mappings first seen after more unloadings say nothing about these addresses; and what the kernel side
    /// did not know is only taken from mappings of exactly that time.
    pub(super) fn locate(
        &mut self,
        pcs: &[u64],
        method: WalkMethod,
        unloaded: u64,
        unknown: bool,
        tracer: &Tracer,
    ) -> (Vec<Location>, bool) {
        if self.modules.count() < unloaded || pcs.iter().any(|&pc| self.place_of(pc, unloaded).is_none()) {
            // A library has been loaded since.
            self.refresh(tracer);
        }
        let timely = self.modules.count() == unloaded && tracer.unloaded(self.index) == unloaded;
        let mut places = Vec::with_capacity(pcs.len());
        let mut doubtful = false;
        for (index, &pc) in pcs.iter().enumerate() {
            let trusted = timely || !unknown || index + 1 < pcs.len();
            let place = match self.place_of(pc, unloaded).filter(|_| trusted) {
                Some(place) => place,
                None if method == WalkMethod::Cfi => self.modules.unknown(pc & !EXACT, pc & EXACT == 0),
                None => return (places, false),
            };
            if doubtful && !place.follows_call() {
                return (places, false);
            }
            doubtful = method != WalkMethod::Cfi || pc & EXACT != 0;
            places.push(place);
        }
        (places, true)
    }

    fn place_of(&self, pc: u64, unloaded: u64) -> Option<Location> {
        self.modules.locate(pc & !EXACT, pc & EXACT == 0, unloaded)
    }
}
