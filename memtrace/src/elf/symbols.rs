//! Functions by name.
//!
//! Both tables are streamed: a browser's `.strtab` alone is hundreds of megabytes. First the offsets at which
//! the wanted names occur in the strings, then the symbols that point there.

use object::LittleEndian as LE;
use object::elf;
use rustc_hash::{FxHashMap, FxHashSet};

use super::{Error, Image, Section};

pub(super) const MAX_SYMBOLS: u64 = 8 << 20;
const MAX_STRINGS: u64 = 512 << 20;
/// The most places in the strings at which a requested name ends: a suffix such as `free` is common.
const MAX_PLACES: usize = 1 << 20;
/// The longest name that [`Image::names_ending`] returns.
const MAX_NAME: u64 = 128;
/// The most versions of one name with different addresses.
const MAX_VERSIONS: usize = 16;
pub(super) const SYMBOLS_AT_ONCE: u64 = 2048;
const STRINGS_AT_ONCE: u64 = 256 << 10;

/// What is at a symbol's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SymbolKind {
    /// A function.
    Function,
    /// A resolver that returns the function's address when the file is loaded (IFUNC). Not to be probed: the
    /// resolver runs once, the function is elsewhere.
    Indirect,
    /// Data.
    Data,
    /// No type: code written in assembler, or a label.
    Untyped,
}

/// How far a symbol is visible to the linker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// To every file; also the GNU unique binding.
    Global,
    /// To every file, unless another defines it.
    Weak,
    /// Inside its own file only.
    Local,
}

/// A function or datum that a file defines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'n> {
    /// Its name, one of those requested.
    pub name: &'n str,
    /// Its ELF virtual address, never 0.
    pub address: u64,
    /// Its length in bytes; 0 if unknown.
    pub size: u64,
    /// What it is.
    pub kind: SymbolKind,
    /// Its binding.
    pub binding: Binding,
}

impl Image {
    /// Finds the definitions of several functions and data at once, in the order of `names`.
    ///
    /// A name occurs several times if it has versions with different addresses; local symbols only if
    /// no exported one has the name. `.symtab` is read only when `.dynsym` does not mention any of the
    /// names, not even as an import: a static program. Undefined and absolute symbols are left out.
    ///
    /// # Errors
    /// A table is over its limit (8 Mi symbols, 512 MiB of names), malformed, or outside the file.
    pub fn symbols<'n>(&self, names: &[&'n str]) -> Result<Vec<Symbol<'n>>, Error> {
        self.symbols_of(names, None)
    }

    /// The same from both tables: what is linked into a program need not be exported. A file without `.symtab` has that of
    /// its `debug` file. A local symbol does not count if the file imports its name: the function of that name is elsewhere.
    ///
    /// # Errors
    /// As [`Image::symbols`].
    pub fn all_symbols<'n>(&self, names: &[&'n str], debug: Option<&Self>) -> Result<Vec<Symbol<'n>>, Error> {
        self.symbols_of(names, Some(debug))
    }

    /// The tables of [`Image::all_symbols`].
    fn tables<'i>(&'i self, debug: Option<&'i Self>) -> impl Iterator<Item = (&'i Self, &'i Section)> {
        let exported = self.section_by_kind(elf::SHT_DYNSYM).map(|table| (self, table));
        // The first symbol is none.
        let has_symbols = |table: &&Section| table.size > size_of::<elf::Sym64<LE>>() as u64;
        let own = self.section_by_kind(elf::SHT_SYMTAB).filter(has_symbols).map(|table| (self, table));
        let others = || debug.and_then(|debug| Some((debug, debug.section_by_kind(elf::SHT_SYMTAB)?)));
        exported.into_iter().chain(own.or_else(others))
    }

    fn symbols_of<'n>(
        &self,
        names: &[&'n str],
        all: Option<Option<&Self>>,
    ) -> Result<Vec<Symbol<'n>>, Error> {
        let mut found = Vec::new();
        let mut imported = FxHashSet::default();
        for (image, table) in self.tables(all.flatten()) {
            let mentioned = image.scan(table, names, &mut found, &mut imported)?;
            if mentioned && all.is_none() {
                break;
            }
        }
        found.retain(|(index, symbol)| symbol.binding != Binding::Local || !imported.contains(index));
        let exported: Vec<&str> = found
            .iter()
            .filter(|(_, symbol)| symbol.binding != Binding::Local)
            .map(|(_, symbol)| symbol.name)
            .collect();
        found.retain(|(_, symbol)| symbol.binding != Binding::Local || !exported.contains(&symbol.name));
        found.sort_by_key(|(index, _)| *index);
        Ok(found.into_iter().map(|(_, symbol)| symbol).collect())
    }

    /// Names of functions that end in `ending`, from the same tables as [`Image::all_symbols`]; at most `most`, of printable
    /// ASCII only. Each once.
    ///
    /// # Errors
    /// As [`Image::symbols`].
    pub fn names_ending(
        &self,
        ending: &str,
        debug: Option<&Self>,
        most: usize,
    ) -> Result<Vec<String>, Error> {
        let mut names: Vec<String> = Vec::new();
        for (image, table) in self.tables(debug) {
            let strings = image.linked(table)?;
            // Where the ending begins, by where the string ends: a symbol's name may begin anywhere before it.
            let mut places: Vec<u64> = image.places(strings, &[ending])?.into_keys().map(u64::from).collect();
            places.sort_unstable();
            if places.is_empty() {
                continue;
            }
            image.each_symbol(table, |symbol| {
                let start = u64::from(symbol.st_name.get(LE));
                let at = places.get(places.partition_point(|place| *place < start)).copied();
                let len = at.and_then(|at| (at - start).checked_add(ending.len() as u64));
                let Some(len) = len.filter(|len| *len <= MAX_NAME && names.len() < most) else {
                    return Ok(());
                };
                if !is_placed(symbol) || kind(symbol).is_none_or(|kind| kind == SymbolKind::Data) {
                    return Ok(());
                }
                let offset = strings.offset.saturating_add(start);
                let block = image.source.read("symbol name", offset, len, MAX_NAME)?;
                let name = std::str::from_utf8(block.bytes()).ok();
                if let Some(name) = name.filter(|name| name.bytes().all(|byte| byte.is_ascii_graphic()))
                    && !names.iter().any(|known| known == name)
                {
                    names.push(name.to_owned());
                }
                Ok(())
            })?;
        }
        Ok(names)
    }

    /// Collects definitions, with their name's index, and the indices of imports; returns whether the table mentions any of
    /// the names.
    fn scan<'n>(
        &self,
        table: &Section,
        names: &[&'n str],
        found: &mut Vec<(usize, Symbol<'n>)>,
        imported: &mut FxHashSet<usize>,
    ) -> Result<bool, Error> {
        let places = self.places(self.linked(table)?, names)?;
        let mut mentioned = false;
        if places.is_empty() {
            return Ok(false);
        }
        self.each_symbol(table, |symbol| {
            let Some(index) = places.get(&symbol.st_name.get(LE)) else { return Ok(()) };
            let (Some(name), Some(kind)) = (names.get(*index), kind(symbol)) else { return Ok(()) };
            mentioned = true;
            if symbol.st_shndx.get(LE) == elf::SHN_UNDEF {
                imported.insert(*index);
            }
            match definition(symbol, name, kind) {
                Some(symbol) => add(found, *index, symbol),
                None => Ok(()),
            }
        })?;
        Ok(mentioned)
    }

    /// Reads a table, some symbols at a time.
    fn each_symbol(
        &self,
        table: &Section,
        mut take: impl FnMut(&elf::Sym64<LE>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let entry = size_of::<elf::Sym64<LE>>() as u64;
        let count = table.size / entry;
        if count > MAX_SYMBOLS {
            return Err(Error::Limit { what: "symbols", value: count, limit: MAX_SYMBOLS });
        }
        let mut next = 0;
        while next < count {
            let taken = SYMBOLS_AT_ONCE.min(count - next);
            let offset = table.offset.saturating_add(next * entry);
            let block = self.source.read("symbols", offset, taken * entry, SYMBOLS_AT_ONCE * entry)?;
            block.entries::<elf::Sym64<LE>>().iter().try_for_each(&mut take)?;
            next += taken;
        }
        Ok(())
    }

    /// Where in the strings each of the names occurs, whole or as the end of a longer one, as linkers merge
    /// them: offset → the name's index.
    fn places(&self, strings: &Section, names: &[&str]) -> Result<FxHashMap<u32, usize>, Error> {
        if strings.size > MAX_STRINGS {
            return Err(Error::Limit { what: "symbol names", value: strings.size, limit: MAX_STRINGS });
        }
        let longest = names.iter().map(|name| name.len()).max().unwrap_or(0) as u64;
        let mut places = FxHashMap::default();
        let mut next = 0;
        while next < strings.size {
            let before = longest.min(next);
            let start = next - before;
            let len = before + STRINGS_AT_ONCE.min(strings.size - next);
            let offset = strings.offset.saturating_add(start);
            let block = self.source.read("symbol names", offset, len, STRINGS_AT_ONCE + longest)?;
            note_places(&mut places, block.bytes(), start, before, names);
            if places.len() > MAX_PLACES {
                let value = places.len() as u64;
                return Err(Error::Limit { what: "symbols of a name", value, limit: MAX_PLACES as u64 });
            }
            next += STRINGS_AT_ONCE;
        }
        Ok(places)
    }
}

/// Examines each string that ends in `bytes` after the first `before` bytes, which have been examined already.
fn note_places(places: &mut FxHashMap<u32, usize>, bytes: &[u8], start: u64, before: u64, names: &[&str]) {
    let ends = bytes.iter().enumerate().filter(|(end, byte)| **byte == 0 && *end as u64 >= before);
    for (end, _) in ends {
        let head = bytes.get(..end).unwrap_or_default();
        let last = head.last();
        for (index, name) in names.iter().enumerate() {
            // Most strings end in another letter.
            if name.as_bytes().last() == last
                && head.ends_with(name.as_bytes())
                && let Ok(place) = u32::try_from(start + (end - name.len()) as u64)
            {
                places.insert(place, index);
            }
        }
    }
}

fn kind(symbol: &elf::Sym64<LE>) -> Option<SymbolKind> {
    match symbol.st_info & 0xf {
        elf::STT_FUNC => Some(SymbolKind::Function),
        elf::STT_GNU_IFUNC => Some(SymbolKind::Indirect),
        elf::STT_OBJECT => Some(SymbolKind::Data),
        elf::STT_NOTYPE => Some(SymbolKind::Untyped),
        _ => None,
    }
}

fn definition<'n>(symbol: &elf::Sym64<LE>, name: &'n str, kind: SymbolKind) -> Option<Symbol<'n>> {
    let binding = match symbol.st_info >> 4 {
        elf::STB_GLOBAL | elf::STB_GNU_UNIQUE => Binding::Global,
        elf::STB_WEAK => Binding::Weak,
        elf::STB_LOCAL => Binding::Local,
        _ => return None,
    };
    let address = symbol.st_value.get(LE);
    (is_placed(symbol) && address != 0).then(|| Symbol {
        name,
        address,
        size: symbol.st_size.get(LE),
        kind,
        binding,
    })
}

/// Whether the file defines it, in a section.
pub(super) fn is_placed(symbol: &elf::Sym64<LE>) -> bool {
    // Numbers from SHN_LORESERVE on (absolute, common) are not sections; 0xffff is an index stored elsewhere.
    let section = symbol.st_shndx.get(LE);
    section != elf::SHN_UNDEF && (section < elf::SHN_LORESERVE || section == elf::SHN_XINDEX)
}

fn add<'n>(found: &mut Vec<(usize, Symbol<'n>)>, index: usize, symbol: Symbol<'n>) -> Result<(), Error> {
    let same = |(other, known): &&(usize, Symbol<'n>)| *other == index && known.binding == symbol.binding;
    if found.iter().filter(same).any(|(_, known)| known.address == symbol.address) {
        return Ok(());
    }
    let versions = found.iter().filter(same).count();
    if versions >= MAX_VERSIONS {
        let value = versions as u64 + 1;
        return Err(Error::Limit { what: "versions of a symbol", value, limit: MAX_VERSIONS as u64 });
    }
    found.push((index, symbol));
    Ok(())
}
