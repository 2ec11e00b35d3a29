//! The stacks of a session, and the names of what is on them.

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use crate::{
    elf::{CodeFile, FileId},
    profile::{Dictionary, Line, LocationId, ModuleId, Reason, Remark, StackId},
    symbolize::{Name, Place, Program, Symbolizer},
    target::{Deleted, Location, Module},
};

/// What makes two modules one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Identity {
    /// The same file under the same name.
    File(Arc<str>, Option<(FileId, Option<FileId>)>),
    /// Deleted files with the same build id, size and owner.
    Deleted(Arc<Deleted>),
    /// The code that the same process generates.
    Generated(u64),
}

impl Identity {
    fn of(module: &Module) -> Self {
        if let Some(generated) = module.generated() {
            return Self::Generated(generated.number());
        }
        match module.file().and_then(|file| file.deleted()) {
            Some(deleted) => Self::Deleted(Arc::clone(deleted)),
            None => Self::File(Arc::clone(&module.name), module.code().map(|code| code.id)),
        }
    }
}

/// A module of the dictionary. Its file stays open as long as stacks go through it.
struct Loaded {
    module: Option<Arc<Module>>,
    identity: Identity,
    /// How many frames of the dictionary's stacks are in it.
    frames: usize,
    /// Of generated code, the map as it was when names were last requested.
    map: Option<CodeFile>,
    /// Places that it did not have at a revision: it may have them later.
    missing: FxHashMap<LocationId, u64>,
}

impl Loaded {
    /// The file that names functions.
    fn code(&self) -> Option<&CodeFile> {
        let module = self.module.as_ref()?;
        self.map.as_ref().or_else(|| module.image().and(module.code()))
    }

    /// Whether names may come later though there are none now.
    fn may_be_named_later(&self) -> bool {
        self.module.as_ref().is_some_and(|module| module.generated().is_some())
    }

    /// Whether the map does not have a place.
    fn lacks(&self, id: LocationId) -> bool {
        let revision = self.map.as_ref().and_then(|map| map.generated).map(|(_, revision)| revision);
        revision.is_some() && self.missing.get(&id).copied() == revision
    }
}

/// Owns the dictionary of a session's reports.
pub struct Names {
    dictionary: Dictionary,
    /// The modules of the dictionary, by id; none of a dictionary that was read from a file.
    modules: Vec<Loaded>,
    ids: FxHashMap<Identity, ModuleId>,
    symbolizer: Symbolizer,
}

impl Names {
    /// With a program, its child names functions; without one, they stay unnamed.
    #[must_use]
    pub fn new(program: Option<Program>) -> Self {
        Self::of(Dictionary::default(), program)
    }

    /// The names of a complete dictionary: no more will be looked up.
    #[must_use]
    pub fn known(dictionary: Dictionary) -> Self {
        Self::of(dictionary, None)
    }

    fn of(dictionary: Dictionary, program: Option<Program>) -> Self {
        Self {
            dictionary,
            modules: Vec::new(),
            ids: FxHashMap::default(),
            symbolizer: Symbolizer::new(program),
        }
    }

    /// The dictionary.
    #[must_use]
    pub fn dictionary(&self) -> &Dictionary {
        &self.dictionary
    }

    /// The dictionary, to add stacks that do not belong to a process.
    pub fn dictionary_mut(&mut self) -> &mut Dictionary {
        &mut self.dictionary
    }

    /// Adds a user of a stack of a process.
    pub fn add_stack(&mut self, places: &[Location], incomplete: Option<Reason>) -> StackId {
        let frames: Vec<LocationId> = places.iter().map(|place| self.location(place)).collect();
        let stack = self.dictionary.add_stack(&frames, incomplete);
        if self.dictionary.users(stack) == 1 {
            for id in &frames {
                if let Some(loaded) = of(&self.dictionary, &mut self.modules, *id) {
                    loaded.frames += 1;
                }
            }
        }
        stack
    }

    /// Adds a user of a stack that is there: until it is released, its id means the same frames.
    pub fn hold_stack(&mut self, id: StackId) {
        self.dictionary.hold_stack(id);
    }

    /// Removes a user of a stack.
    pub fn release_stack(&mut self, id: StackId) {
        let Some(gone) = self.dictionary.release_stack(id) else { return };
        for id in gone.frames.iter() {
            let Some(loaded) = of(&self.dictionary, &mut self.modules, *id) else { continue };
            loaded.frames = loaded.frames.saturating_sub(1);
            if loaded.frames == 0 {
                loaded.module = None;
                (loaded.map, loaded.missing) = (None, FxHashMap::default());
                self.ids.remove(&loaded.identity);
            }
        }
    }

    fn location(&mut self, place: &Location) -> LocationId {
        let module = self.module(&place.module);
        self.dictionary.add_location(module, place.address, place.is_return)
    }

    fn module(&mut self, module: &Arc<Module>) -> ModuleId {
        let identity = Identity::of(module);
        if let Some(id) = self.ids.get(&identity) {
            return *id;
        }
        let build_id = module.image().and_then(|image| image.build_id().ok().flatten());
        let id = self.dictionary.add_module(&module.name, build_id.as_deref().map(hexadecimal).as_deref());
        let loaded = Loaded {
            module: Some(Arc::clone(module)),
            identity: identity.clone(),
            frames: 0,
            map: None,
            missing: FxHashMap::default(),
        };
        self.modules.push(loaded);
        self.ids.insert(identity, id);
        id
    }

    /// Requests the names of the functions on these stacks. Returns whether any are pending.
    pub(super) fn ask(&mut self, stacks: &[StackId]) -> bool {
        let unnamed = unnamed(&self.dictionary, stacks);
        self.read_maps(&unnamed);
        let Self { dictionary, modules, symbolizer, .. } = self;
        symbolizer.ask(unnamed.iter().filter_map(|id| place(dictionary, modules, *id)));
        self.settle(stacks) > 0
    }

    /// Looks for the maps of generated code that these places are in.
    fn read_maps(&mut self, unnamed: &[LocationId]) {
        let places = unnamed.iter().filter_map(|id| self.dictionary.location(*id));
        let wanted: FxHashSet<usize> = places.map(|place| place.module.index()).collect();
        for index in wanted {
            if let Some(loaded) = self.modules.get_mut(index)
                && let Some(generated) = loaded.module.as_ref().and_then(|module| module.generated())
            {
                loaded.map = generated.map();
            }
        }
    }

    /// Adds the names known so far to these stacks. Returns how many places are still pending.
    pub(super) fn settle(&mut self, stacks: &[StackId]) -> u64 {
        let mut asked = 0;
        for id in unnamed(&self.dictionary, stacks) {
            let Some(place) = place(&self.dictionary, &self.modules, id) else {
                let loaded = of(&self.dictionary, &mut self.modules, id);
                if loaded.is_none_or(|loaded| !loaded.may_be_named_later()) {
                    // Without a file there are no names.
                    self.dictionary.name(id, Box::default());
                }
                continue;
            };
            if self.symbolizer.is_asked(&place) {
                asked += 1;
            } else if let Some(names) = self.symbolizer.take(&place) {
                let (address, revision) = (place.address, place.code.generated);
                if let (true, Some((_, revision))) = (names.is_empty(), revision) {
                    if let Some(loaded) = of(&self.dictionary, &mut self.modules, id) {
                        loaded.missing.insert(id, revision);
                    }
                    continue;
                }
                let lines =
                    names.into_iter().map(|name| line(&mut self.dictionary, &name, address)).collect();
                self.dictionary.name(id, lines);
            }
        }
        asked
    }

    /// Waits until names have arrived; forever if none are pending.
    pub async fn answered(&mut self) {
        self.symbolizer.answered().await;
    }

    /// Whether no name is pending. Processes what has arrived.
    pub(super) fn is_settled(&mut self) -> bool {
        self.symbolizer.catch_up();
        self.symbolizer.asked() == 0
    }

    /// Counts a report that no longer waits for its names.
    pub(super) fn give_up(&mut self) {
        self.symbolizer.give_up();
    }

    /// How often names in a file were given up, or a report did not wait for names.
    pub(super) fn given_up(&self) -> u64 {
        self.symbolizer.given_up()
    }

    /// What went wrong so far.
    pub(super) fn remarks(&self) -> &[Remark] {
        self.symbolizer.remarks()
    }
}

/// The module of a location.
fn of<'a>(dictionary: &Dictionary, modules: &'a mut [Loaded], id: LocationId) -> Option<&'a mut Loaded> {
    modules.get_mut(dictionary.location(id)?.module.index())
}

/// Places on these stacks that have no names yet, each once.
fn unnamed(dictionary: &Dictionary, stacks: &[StackId]) -> Vec<LocationId> {
    let frames = stacks.iter().flat_map(|stack| dictionary.frames(*stack)).copied();
    let is_unnamed = |id: &LocationId| dictionary.location(*id).is_some_and(|place| place.lines.is_none());
    let mut unnamed: Vec<LocationId> = frames.filter(is_unnamed).collect();
    unnamed.sort_unstable();
    unnamed.dedup();
    unnamed
}

/// Where names of a location are to be found; `None` where there is no file that we read.
fn place<'a>(dictionary: &Dictionary, modules: &'a [Loaded], id: LocationId) -> Option<Place<'a>> {
    let location = dictionary.location(id)?;
    let loaded = modules.get(location.module.index()).filter(|loaded| !loaded.lacks(id))?;
    let code = loaded.code()?;
    Some(Place { code, address: location.address, is_return: location.is_return })
}

fn line(dictionary: &mut Dictionary, name: &Name, address: u64) -> Line {
    let file = name.file.as_ref().map(|file| dictionary.add_shared_text(file));
    let function = name.function.as_ref().map(|function| {
        let function = dictionary.add_shared_text(function);
        dictionary.add_function(function, file)
    });
    // Also for an inlined function, the offset counts from the start of the function that has the code.
    let offset = name.start.map_or(0, |start| address.saturating_sub(start));
    Line { function, file, line: name.line, offset, inlined: name.inlined }
}

fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
