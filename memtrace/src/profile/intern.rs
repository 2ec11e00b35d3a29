//! Adding to a dictionary: equal entries get the same id.

use std::sync::Arc;

use super::{
    Reason,
    dictionary::Dictionary,
    types::{Function, FunctionId, Line, Location, LocationId, Module, ModuleId, Stack, StackId, StringId},
};

/// The id of something, which is added to a table if it is not there.
macro_rules! intern {
    ($self:ident.$table:ident, $id:ident, $value:expr) => {{
        let value = $value;
        match $self.index.$table.get(&value) {
            Some(id) => *id,
            None => {
                let id = $id(id($self.$table.len()));
                $self.$table.push(value.clone());
                $self.index.$table.insert(value, id);
                id
            }
        }
    }};
}

impl Dictionary {
    /// Starts to record changes, if that has not happened yet. Existing entries count as changes.
    pub(super) fn record(&mut self) {
        if !std::mem::replace(&mut self.index.records, true) {
            self.index.changed = (0..id(self.stacks.len())).map(StackId).collect();
        }
    }

    /// Adds a text.
    pub fn add_text(&mut self, text: &str) -> StringId {
        if let Some(id) = self.index.strings.get(text) {
            return *id;
        }
        intern!(self.strings, StringId, Arc::<str>::from(text))
    }

    /// Adds a shared text.
    pub fn add_shared_text(&mut self, text: &Arc<str>) -> StringId {
        intern!(self.strings, StringId, Arc::clone(text))
    }

    /// Adds a module. Two can have the same name: of a file that replaced another, for example.
    pub fn add_module(&mut self, name: &Arc<str>, build_id: Option<&str>) -> ModuleId {
        let name = self.add_shared_text(name);
        let build_id = build_id.map(|id| self.add_text(id));
        let module = ModuleId(id(self.modules.len()));
        self.modules.push(Module { name, build_id });
        module
    }

    /// Adds a function.
    pub fn add_function(&mut self, name: StringId, file: Option<StringId>) -> FunctionId {
        intern!(self.functions, FunctionId, Function { name, file })
    }

    /// Adds a place in code.
    pub fn add_location(&mut self, module: ModuleId, address: u64, is_return: bool) -> LocationId {
        let next = LocationId(id(self.locations.len()));
        let found = *self.index.locations.entry((module, address, is_return)).or_insert(next);
        if found == next {
            self.locations.push(Location { module, address, is_return, lines: None });
        }
        found
    }

    /// Sets the functions at a place; empty if none is known.
    pub fn name(&mut self, location: LocationId, lines: Box<[Line]>) {
        if let Some(known) = self.locations.get_mut(location.index()) {
            known.lines = Some(lines);
            if self.index.records {
                self.index.named.push(location);
            }
        }
    }

    /// Adds a user of a stack.
    pub fn add_stack(&mut self, frames: &[LocationId], incomplete: Option<Reason>) -> StackId {
        let stack = Stack { frames: frames.into(), incomplete };
        if let Some(id) = self.index.stacks.get(&stack).copied() {
            self.hold_stack(id);
            return id;
        }
        let next = StackId(id(self.stacks.len()));
        let id = self.index.free.pop().unwrap_or(next);
        match (self.stacks.get_mut(id.index()), self.users.get_mut(id.index())) {
            (Some(place), Some(users)) => (*place, *users) = (stack.clone(), 1),
            _ => {
                self.stacks.push(stack.clone());
                self.users.push(1);
            }
        }
        self.index.stacks.insert(stack, id);
        if self.index.records {
            self.index.changed.push(id);
        }
        id
    }

    /// Adds a user of a stack that is there.
    pub fn hold_stack(&mut self, id: StackId) {
        if let Some(users) = self.users.get_mut(id.index()) {
            *users = users.saturating_add(1);
        }
    }

    /// Removes a user of a stack: the last one frees its place. Returns the stack if it was the last.
    pub fn release_stack(&mut self, id: StackId) -> Option<Stack> {
        let users = self.users.get_mut(id.index()).filter(|users| **users > 0)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        let stack = std::mem::take(self.stacks.get_mut(id.index())?);
        self.index.stacks.remove(&stack);
        self.index.free.push(id);
        Some(stack)
    }

    /// How many users a stack has.
    #[must_use]
    pub fn users(&self, id: StackId) -> u32 {
        self.users.get(id.index()).copied().unwrap_or_default()
    }
}

/// Callers bound the tables far below this.
fn id(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::{Delta, Dictionary, Line, StackId, dictionary::Damaged};

    fn line(dictionary: &mut Dictionary, function: &str, line: u32) -> Line {
        let name = dictionary.add_text(function);
        let file = Some(dictionary.add_text("a.c"));
        let function = Some(dictionary.add_function(name, file));
        Line { function, file, line: Some(line), offset: 4, inlined: false }
    }

    /// A dictionary with a stack of two places in one module.
    fn dictionary() -> (Dictionary, StackId) {
        let mut dictionary = Dictionary::default();
        let module = dictionary.add_module(&Arc::from("/bin/a"), Some("ab12"));
        let frames = [0x10, 0x20].map(|address| dictionary.add_location(module, address, true));
        let stack = dictionary.add_stack(&frames, None);
        (dictionary, stack)
    }

    #[test]
    fn the_same_is_stored_once() {
        let (mut dictionary, stack) = dictionary();
        let module = dictionary.locations[0].module;
        let frames = [0x10, 0x20].map(|address| dictionary.add_location(module, address, true));
        assert_eq!(dictionary.add_stack(&frames, None), stack);
        assert_eq!((dictionary.locations.len(), dictionary.stacks.len()), (2, 1));
        assert_ne!(dictionary.add_location(module, 0x10, false), frames[0]);
        let other = dictionary.add_module(&Arc::from("/bin/a"), None);
        assert_ne!(dictionary.add_location(other, 0x10, true), frames[0], "another file of the same name");
        assert_eq!(dictionary.strings.len(), 2);
    }

    #[test]
    fn a_stack_goes_with_its_last_user() {
        let (mut dictionary, stack) = dictionary();
        let frames = dictionary.frames(stack).to_vec();
        dictionary.add_stack(&frames, None);
        dictionary.hold_stack(stack);
        assert_eq!(dictionary.users(stack), 3);
        assert_eq!([(); 2].map(|()| dictionary.release_stack(stack)), [None, None]);
        assert_eq!(dictionary.release_stack(stack).map(|stack| stack.frames.len()), Some(2));
        assert_eq!(dictionary.frames(stack), []);
        assert_eq!(dictionary.release_stack(stack), None);
        assert_eq!(dictionary.add_stack(&frames[..1], None), stack, "its place is free");
    }

    #[test]
    fn deltas_make_the_same_dictionary() {
        let (mut first, stack) = dictionary();
        let mut second = Dictionary::default();
        second.apply(first.delta()).unwrap();
        assert_eq!(first.delta(), Delta::default());
        // An earlier place is named, a stack replaces another, a third is new.
        let lines = [line(&mut first, "f", 3)];
        let frames = first.frames(stack).to_vec();
        first.name(frames[0], lines.into());
        first.release_stack(stack);
        first.add_stack(&frames[1..], None);
        first.add_stack(&frames[..1], None);
        second.apply(first.delta()).unwrap();
        assert_eq!(
            (&first.strings, &first.modules, &first.functions),
            (&second.strings, &second.modules, &second.functions)
        );
        assert_eq!((&first.locations, &first.stacks), (&second.locations, &second.stacks));
        assert_eq!(first.delta(), Delta::default());
    }

    #[test]
    fn what_refers_to_nothing_is_refused() {
        let (mut whole, _) = dictionary();
        let delta = whole.delta();
        let damage: [fn(&mut Delta); 4] = [
            |delta| delta.strings.truncate(1),
            |delta| delta.modules.clear(),
            |delta| delta.locations.truncate(1),
            |delta| delta.stacks[0].0 = StackId(7),
        ];
        for damage in damage {
            let mut delta = delta.clone();
            damage(&mut delta);
            assert_eq!(Dictionary::default().apply(delta), Err(Damaged));
        }
        assert_eq!(Dictionary::default().apply(delta), Ok(()));
    }
}
