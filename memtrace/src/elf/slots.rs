//! What the dynamic linker writes into a file's slots: where code that goes through the PLT or the GOT ends up.

use object::LittleEndian as LE;
use object::elf;
use rustc_hash::FxHashMap;

use super::source::until_nul;
use super::{Error, Image, Section};

/// The most relocations examined, of all tables; a browser's libraries have about 500,000.
const MAX_RELOCATIONS: u64 = 4 << 20;
/// The most slots kept. Large programs have a few thousand.
const MAX_SLOTS: usize = 1 << 18;
const RELOCATIONS_AT_ONCE: u64 = 4096;
/// The longest symbol name that matters here, with its NUL.
const MAX_NAME: u64 = 256;

/// What a slot will hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Slot {
    /// The address of a function of this file. Another file may define it too, and take precedence.
    Own(u64),
    /// That of a function of another file, by its name; an empty one for a function that is chosen when the file is loaded
    /// (IFUNC).
    Foreign(String),
}

/// What a slot's relocation refers to.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A symbol.
    Symbol(u32),
    /// A resolver's result.
    Chosen,
}

/// The slots of a file that hold addresses of functions.
#[derive(Debug)]
pub struct Slots<'a> {
    image: &'a Image,
    sources: FxHashMap<u64, Source>,
}

impl<'a> Slots<'a> {
    /// No slots: nothing is known.
    #[must_use]
    pub fn none(image: &'a Image) -> Self {
        Self { image, sources: FxHashMap::default() }
    }

    /// Reads a file's relocations.
    ///
    /// # Errors
    /// There are too many (4 Mi relocations, 256 Ki slots), or a table is outside the file.
    pub fn read(image: &'a Image) -> Result<Self, Error> {
        let mut slots = Self { image, sources: FxHashMap::default() };
        // Sections that are not loaded are for linkers.
        let tables = || {
            let loaded = |section: &&Section| section.kind == elf::SHT_RELA && section.address != 0;
            image.sections.iter().filter(loaded)
        };
        let entry = size_of::<elf::Rela64<LE>>() as u64;
        let count = tables().fold(0, |sum: u64, table| sum.saturating_add(table.size / entry));
        if count > MAX_RELOCATIONS {
            return Err(Error::Limit { what: "relocations", value: count, limit: MAX_RELOCATIONS });
        }
        for table in tables() {
            slots.add(table, table.size / entry)?;
        }
        Ok(slots)
    }

    fn add(&mut self, table: &Section, count: u64) -> Result<(), Error> {
        let entry = size_of::<elf::Rela64<LE>>() as u64;
        let mut next = 0;
        while next < count {
            let taken = RELOCATIONS_AT_ONCE.min(count - next);
            let offset = table.offset.saturating_add(next * entry);
            let block =
                self.image.source.read("relocations", offset, taken * entry, RELOCATIONS_AT_ONCE * entry)?;
            for relocation in block.entries::<elf::Rela64<LE>>() {
                let source = match relocation.r_type(LE, false) {
                    elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT => {
                        Source::Symbol(relocation.r_sym(LE, false))
                    }
                    elf::R_X86_64_IRELATIVE => Source::Chosen,
                    _ => continue,
                };
                if self.sources.len() >= MAX_SLOTS {
                    let value = MAX_SLOTS as u64;
                    return Err(Error::Limit { what: "slots", value, limit: value });
                }
                self.sources.insert(relocation.r_offset.get(LE), source);
            }
            next += taken;
        }
        Ok(())
    }

    /// The function whose address is stored at an ELF virtual address; `None` if there is none, or its symbol is damaged.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Slot> {
        match *self.sources.get(&address)? {
            Source::Chosen => Some(Slot::Foreign(String::new())),
            Source::Symbol(number) => self.symbol(number).ok()?,
        }
    }

    fn symbol(&self, number: u32) -> Result<Option<Slot>, Error> {
        let Some(symbols) = self.image.section_by_kind(elf::SHT_DYNSYM) else { return Ok(None) };
        let entry = size_of::<elf::Sym64<LE>>() as u64;
        let offset = symbols.offset.saturating_add(u64::from(number).saturating_mul(entry));
        let block = self.image.source.read("symbol", offset, entry, entry)?;
        let Some(symbol) = block.entries::<elf::Sym64<LE>>().first() else { return Ok(None) };
        if symbol.st_info & 0xf == elf::STT_GNU_IFUNC {
            return Ok(Some(Slot::Foreign(String::new())));
        }
        if symbol.st_shndx.get(LE) != elf::SHN_UNDEF {
            return Ok(Some(Slot::Own(symbol.st_value.get(LE))));
        }
        let strings = self.image.linked(symbols)?;
        let place = u64::from(symbol.st_name.get(LE));
        let Some(rest) = strings.size.checked_sub(place) else { return Ok(None) };
        let offset = strings.offset.saturating_add(place);
        let block = self.image.source.read("symbol name", offset, rest.min(MAX_NAME), MAX_NAME)?;
        let name = until_nul(block.bytes()).map(String::from_utf8_lossy);
        Ok(name.map(|name| Slot::Foreign(name.into_owned())))
    }
}
