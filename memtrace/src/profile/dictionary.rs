//! Texts, modules, functions, locations and stacks, each stored once and referred to by its index.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    index::{Index, Written},
    types::{Function, FunctionId, Line, Location, LocationId, Module, ModuleId, Stack, StackId, StringId},
};

/// Frames of a stack, and functions at a location, that a file may have: eight times as many as a walk finds.
const MOST: usize = 4096;

/// All of them.
#[derive(Clone, Debug, Default)]
pub struct Dictionary {
    pub(super) strings: Vec<Arc<str>>,
    pub(super) modules: Vec<Module>,
    pub(super) functions: Vec<Function>,
    pub(super) locations: Vec<Location>,
    pub(super) stacks: Vec<Stack>,
    /// How often each stack is used: the place of an unused one is reused.
    pub(super) users: Vec<u32>,
    pub(super) index: Index,
}

/// What a dictionary gained since the previous delta.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    pub(super) strings: Vec<Arc<str>>,
    pub(super) modules: Vec<Module>,
    pub(super) functions: Vec<Function>,
    pub(super) locations: Vec<Location>,
    /// Earlier locations that have been named since.
    pub(super) named: Vec<(LocationId, Box<[Line]>)>,
    /// New stacks, and those that replaced others.
    pub(super) stacks: Vec<(StackId, Stack)>,
}

impl Delta {
    /// Everything that a dictionary has, for a file of its own.
    #[must_use]
    pub fn whole(dictionary: &Dictionary) -> Self {
        let numbers = (0..).map(StackId);
        Self {
            strings: dictionary.strings.clone(),
            modules: dictionary.modules.clone(),
            functions: dictionary.functions.clone(),
            locations: dictionary.locations.clone(),
            named: Vec::new(),
            stacks: numbers.zip(dictionary.stacks.iter().cloned()).collect(),
        }
    }
}

/// A serialized dictionary or profile with a reference to something that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

impl fmt::Display for Damaged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it refers to names or stacks that it does not contain")
    }
}

impl std::error::Error for Damaged {}

impl Dictionary {
    /// A text; empty for an unknown id.
    #[must_use]
    pub fn text(&self, id: StringId) -> &str {
        self.strings.get(id.index()).map_or("", |text| text)
    }

    /// Whether a text is there.
    #[must_use]
    pub(super) fn has_text(&self, id: StringId) -> bool {
        id.index() < self.strings.len()
    }

    /// A module.
    #[must_use]
    pub fn module(&self, id: ModuleId) -> Option<&Module> {
        self.modules.get(id.index())
    }

    /// A function.
    #[must_use]
    pub fn function(&self, id: FunctionId) -> Option<&Function> {
        self.functions.get(id.index())
    }

    /// A place in code.
    #[must_use]
    pub fn location(&self, id: LocationId) -> Option<&Location> {
        self.locations.get(id.index())
    }

    /// How many places in code there are.
    #[must_use]
    pub fn locations(&self) -> usize {
        self.locations.len()
    }

    /// A stack.
    #[must_use]
    pub fn stack(&self, id: StackId) -> Option<&Stack> {
        self.stacks.get(id.index())
    }

    /// The frames of a stack; empty for an unknown id.
    #[must_use]
    pub fn frames(&self, id: StackId) -> &[LocationId] {
        self.stack(id).map_or(&[], |stack| &stack.frames)
    }

    /// What was added since the last call, or since the beginning, for [`Dictionary::apply`].
    pub fn delta(&mut self) -> Delta {
        self.record();
        let Written { strings, modules, functions, locations } = self.index.written;
        let after = |table: &[Location]| table.get(locations..).unwrap_or_default().to_vec();
        let mut named = std::mem::take(&mut self.index.named);
        named.sort_unstable();
        named.dedup();
        let named = named.into_iter().filter(|id| id.index() < locations);
        let lines = |id: LocationId| Some((id, self.location(id)?.lines.clone()?));
        let named = named.filter_map(lines).collect();
        let mut changed = std::mem::take(&mut self.index.changed);
        changed.sort_unstable();
        changed.dedup();
        let stacks = changed.into_iter().filter_map(|id| Some((id, self.stack(id)?.clone()))).collect();
        let delta = Delta {
            strings: self.strings.get(strings..).unwrap_or_default().to_vec(),
            modules: self.modules.get(modules..).unwrap_or_default().to_vec(),
            functions: self.functions.get(functions..).unwrap_or_default().to_vec(),
            locations: after(&self.locations),
            named,
            stacks,
        };
        self.index.written = Written {
            strings: self.strings.len(),
            modules: self.modules.len(),
            functions: self.functions.len(),
            locations: self.locations.len(),
        };
        delta
    }

    /// Applies a delta. Deltas must be applied in the order in which they were made. The result can be read, not extended.
    ///
    /// # Errors
    /// It refers to something that does not exist. The dictionary is then unusable.
    pub fn apply(&mut self, delta: Delta) -> Result<(), Damaged> {
        let firsts = (self.modules.len(), self.functions.len(), self.locations.len());
        self.strings.extend(delta.strings);
        self.modules.extend(delta.modules);
        self.functions.extend(delta.functions);
        self.locations.extend(delta.locations);
        let mut is_whole = self.refers_to_itself(firsts);
        for (id, lines) in delta.named {
            is_whole &= self.has_names_of(&lines);
            self.locations.get_mut(id.index()).ok_or(Damaged)?.lines = Some(lines);
        }
        for (id, stack) in delta.stacks {
            is_whole &=
                stack.frames.len() <= MOST && stack.frames.iter().all(|id| id.index() < self.locations.len());
            if id.index() == self.stacks.len() {
                self.stacks.push(stack);
            } else {
                *self.stacks.get_mut(id.index()).ok_or(Damaged)? = stack;
            }
        }
        if is_whole { Ok(()) } else { Err(Damaged) }
    }

    /// Whether everything that modules, functions and locations from these on refer to exists.
    fn refers_to_itself(&self, (modules, functions, locations): (usize, usize, usize)) -> bool {
        let text = |id: StringId| self.has_text(id);
        let module = |module: &Module| text(module.name) && module.build_id.is_none_or(text);
        let function = |function: &Function| text(function.name) && function.file.is_none_or(text);
        let location = |location: &Location| {
            let lines = location.lines.as_deref().unwrap_or_default();
            location.module.index() < self.modules.len() && self.has_names_of(lines)
        };
        self.modules.iter().skip(modules).all(module)
            && self.functions.iter().skip(functions).all(function)
            && self.locations.iter().skip(locations).all(location)
    }

    fn has_names_of(&self, lines: &[Line]) -> bool {
        let exists = |line: &Line| {
            line.file.is_none_or(|id| self.has_text(id))
                && line.function.is_none_or(|id| id.index() < self.functions.len())
        };
        lines.len() <= MOST && lines.iter().all(exists)
    }
}
