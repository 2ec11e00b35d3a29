//! Types of C++ objects by their vtables, without symbols: what the program has for `typeid` (Itanium C++ ABI, 2.5.2 and 2.9.5).

use std::{fs::File, io, os::unix::fs::FileExt as _};

use crate::{
    heap::census::Peek as _,
    sources::process::census::TargetMemory,
    symbolize::demangled,
    target::{
        Modules,
        memory::{Kind, Region},
    },
};

/// Bytes of the name of a type that are read.
const MOST_NAME: usize = 512;
/// Files that are kept open.
const OPEN: usize = 64;

/// Reads types.
pub(super) struct Types<'a> {
    memory: TargetMemory,
    modules: &'a Modules,
    /// Mapped files, in order of address.
    files: Vec<Region>,
    /// By the names of their mappings.
    open: Vec<(std::sync::Arc<str>, Option<File>)>,
}

impl<'a> Types<'a> {
    /// Of the process `pid`.
    ///
    /// # Errors
    /// It is gone, or access is denied.
    pub(super) fn new(pid: u32, modules: &'a Modules, regions: &[Region]) -> io::Result<Self> {
        let files = regions.iter().filter(|region| region.kind == Kind::FilePrivate).cloned().collect();
        Ok(Self { memory: TargetMemory::open(pid)?, modules, files, open: Vec::new() })
    }

    /// The mapping of a file that an address is in.
    pub(super) fn file(&self, address: u64) -> Option<&Region> {
        let place = self.files.partition_point(|region| region.range.end <= address);
        self.files.get(place).filter(|region| region.range.contains(&address))
    }

    /// The type of an object that begins with this word, if it is the address of a vtable.
    pub(super) fn name(&mut self, vtable: u64) -> Option<String> {
        if !vtable.is_multiple_of(8) {
            return None;
        }
        // Before the functions: how far the object begins before this part of it, and its `type_info`.
        let [to_top, info] = self.words(vtable.checked_sub(16)?)?;
        if to_top != 0 || !info.is_multiple_of(8) {
            return None;
        }
        // Its own vtable, and its name.
        let [info_vtable, name] = self.words(info)?;
        self.file(info_vtable)?;
        let mut bytes = [0; MOST_NAME];
        let read = self.bytes(name, &mut bytes)?;
        let name = bytes.get(..read)?.split(|byte| *byte == 0).next()?;
        type_name(std::str::from_utf8(name).ok()?)
    }

    /// Two words of a file, as they are in memory.
    fn words(&mut self, address: u64) -> Option<[u64; 2]> {
        self.file(address)?;
        let mut words = [0; 2];
        // Pages that were not changed read as zeros.
        if self.memory.read(address, &mut words) == 2 && words != [0; 2] {
            return Some(words);
        }
        let mut bytes = [0; 16];
        if self.bytes(address, &mut bytes)? < bytes.len() {
            return None;
        }
        let (first, second) = bytes.split_first_chunk()?;
        Some([u64::from_le_bytes(*first), u64::from_le_bytes(*second.first_chunk()?)])
    }

    /// Bytes of a file, as they are in it. Returns how many there are.
    fn bytes(&mut self, address: u64, bytes: &mut [u8]) -> Option<usize> {
        let region = self.file(address)?;
        let offset = region.offset.checked_add(address - region.range.start)?;
        let room = usize::try_from(region.range.end - address).ok()?.min(bytes.len());
        let name = std::sync::Arc::clone(&region.name);
        if !self.open.iter().any(|(known, _)| *known == name) {
            if self.open.len() >= OPEN {
                return None;
            }
            let module = self.modules.iter().find(|module| module.name == name);
            let file = module.and_then(|module| File::open(module.path()?).ok());
            self.open.push((std::sync::Arc::clone(&name), file));
        }
        let (_, file) = self.open.iter().find(|(known, _)| *known == name)?;
        file.as_ref()?.read_at(bytes.get_mut(..room)?, offset).ok()
    }
}

/// The name of a type as `type_info` has it, demangled; `None`: that is no type of a class.
fn type_name(mangled: &str) -> Option<String> {
    // Of a type that is compared by address.
    let mangled = mangled.strip_prefix('*').unwrap_or(mangled);
    let is_class = mangled.starts_with(|first: char| first.is_ascii_digit() || "NSIZ".contains(first));
    if mangled.len() < 2 || !is_class {
        return None;
    }
    of_symbol(mangled)
}

/// The type with that mangled name.
pub(super) fn of_symbol(mangled: &str) -> Option<String> {
    let whole = demangled(&format!("_ZTS{mangled}"));
    let inner = whole.strip_prefix("{typeinfo name(").and_then(|rest| rest.strip_suffix(")}"));
    inner.or_else(|| whole.strip_prefix("typeinfo name for ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::type_name;

    #[test]
    fn only_names_of_classes_are_types() {
        assert_eq!(type_name("N3app7SessionE").as_deref(), Some("app::Session"));
        assert_eq!(type_name("*4Node").as_deref(), Some("Node"));
        for other in ["", "i", "hello world", "9Node", "GET /", "N3app"] {
            assert_eq!(type_name(other), None, "{other}");
        }
    }
}
