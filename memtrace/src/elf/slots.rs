//! What the dynamic linker puts into a file's slots: where code that goes through the PLT or the GOT ends up.

use object::LittleEndian as LE;
use object::elf;

use super::source::until_nul;
use super::{Error, Image, Section};

/// Relocations looked at; a browser's libraries have some 500,000.
const MAX_RELOCATIONS: u64 = 4 << 20;
const RELOCATIONS_AT_ONCE: u64 = 4096;
/// The longest symbol name that matters here, with its NUL.
const MAX_NAME: u64 = 256;

/// What a slot will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The address of a function of this file. Another file may define it too and be asked first.
    Own(u64),
    /// That of a function of another file, by its name; an empty one for a function that is chosen when the file is loaded
    /// (IFUNC).
    Foreign(String),
}

impl Image {
    /// The function whose address the dynamic linker stores at an ELF virtual address; `None` where it stores none.
    ///
    /// # Errors
    /// A table is over its limit (4 Mi relocations), malformed, or outside the file.
    pub fn slot(&self, address: u64) -> Result<Option<Slot>, Error> {
        for table in self.sections.iter().filter(|section| section.kind == elf::SHT_RELA) {
            match self.relocation(table, address)? {
                Some((elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT, symbol)) => {
                    return self.slot_of_symbol(table, symbol);
                }
                // Chosen when the file is loaded.
                Some((elf::R_X86_64_IRELATIVE, _)) => return Ok(Some(Slot::Foreign(String::new()))),
                _ => {}
            }
        }
        Ok(None)
    }

    /// The kind of a slot's relocation, and the number of the symbol that it names.
    fn relocation(&self, table: &Section, address: u64) -> Result<Option<(u32, u32)>, Error> {
        let entry = size_of::<elf::Rela64<LE>>() as u64;
        let count = table.size / entry;
        if count > MAX_RELOCATIONS {
            return Err(Error::Limit { what: "relocations", value: count, limit: MAX_RELOCATIONS });
        }
        let mut next = 0;
        while next < count {
            let taken = RELOCATIONS_AT_ONCE.min(count - next);
            let offset = table.offset.saturating_add(next * entry);
            let block =
                self.source.read("relocations", offset, taken * entry, RELOCATIONS_AT_ONCE * entry)?;
            let mut entries = block.entries::<elf::Rela64<LE>>().iter();
            if let Some(found) = entries.find(|entry| entry.r_offset.get(LE) == address) {
                return Ok(Some((found.r_type(LE, false), found.r_sym(LE, false))));
            }
            next += taken;
        }
        Ok(None)
    }

    fn slot_of_symbol(&self, table: &Section, number: u32) -> Result<Option<Slot>, Error> {
        let symbols = usize::try_from(table.link).ok().and_then(|index| self.sections.get(index));
        let Some(symbols) = symbols.filter(|section| section.kind == elf::SHT_DYNSYM) else {
            return Ok(None);
        };
        let entry = size_of::<elf::Sym64<LE>>() as u64;
        let offset = symbols.offset.saturating_add(u64::from(number).saturating_mul(entry));
        let block = self.source.read("symbol", offset, entry, entry)?;
        let Some(symbol) = block.entries::<elf::Sym64<LE>>().first() else { return Ok(None) };
        if symbol.st_shndx.get(LE) != elf::SHN_UNDEF {
            return Ok(Some(Slot::Own(symbol.st_value.get(LE))));
        }
        let strings = self.linked(symbols)?;
        let place = u64::from(symbol.st_name.get(LE));
        let Some(rest) = strings.size.checked_sub(place) else { return Ok(None) };
        let offset = strings.offset.saturating_add(place);
        let block = self.source.read("symbol name", offset, rest.min(MAX_NAME), MAX_NAME)?;
        let name = until_nul(block.bytes()).map(String::from_utf8_lossy);
        Ok(name.map(|name| Slot::Foreign(name.into_owned())))
    }
}
