//! Variables by address.
//!
//! The tables are read once, in pieces; what is kept of a variable is 24 bytes. A name is read when it is asked for.

use std::cmp::Reverse;

use object::LittleEndian as LE;
use object::elf;

use super::source::{Source, until_nul};
use super::symbols::{MAX_SYMBOLS, SYMBOLS_AT_ONCE, is_placed};
use super::{Error, Image, Section};

/// Variables of one file; with those that were found twice, at most 200 MiB while they are sorted.
const MAX_VARIABLES: usize = 4 << 20;
/// Bytes of a name that are read.
const MAX_NAME: u64 = 4096;
/// How many variables before an address are examined. They overlap where one is inside another; a few do.
const MAX_OVERLAPPING: usize = 1024;

/// A variable that a file defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name as in the file, mangled, without its version, and without the number that makes the name of a local
    /// variable unique. At most 4,096 bytes.
    pub name: String,
    /// Its ELF virtual address; of a thread-local one the place in the file's thread-local data.
    pub address: u64,
    /// Its length in bytes, never 0.
    pub size: u64,
}

/// The writable variables of a file, by address.
#[derive(Debug)]
pub struct Variables {
    source: Source,
    /// Strings of each table: offset and size.
    strings: Vec<(u64, u64)>,
    common: Vec<Entry>,
    thread_local: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u64,
    name: u32,
    /// Which of the strings have the name.
    table: u8,
    /// How far it is visible: the less the farther.
    rank: u8,
}

impl Image {
    /// The variables in both tables of this file. Addresses are those of `loaded`: this file, or the one that this is the
    /// debug file of. Left out are those without a size, and those that are not, or not wholly, in writable memory.
    ///
    /// # Errors
    /// A table is over its limit (8 Mi symbols, 4 Mi variables), malformed, or outside the file.
    pub fn variables(&self, loaded: &Self) -> Result<Variables, Error> {
        let mut found = Variables {
            source: self.source.clone(),
            strings: Vec::new(),
            common: Vec::new(),
            thread_local: Vec::new(),
        };
        for kind in [elf::SHT_SYMTAB, elf::SHT_DYNSYM] {
            let Some(table) = self.section_by_kind(kind) else { continue };
            let strings = self.linked(table)?;
            let number = u8::try_from(found.strings.len()).unwrap_or_default();
            found.strings.push((strings.offset, strings.size));
            self.collect(table, number, loaded, &mut found)?;
        }
        found.common = sorted(std::mem::take(&mut found.common));
        found.thread_local = sorted(std::mem::take(&mut found.thread_local));
        Ok(found)
    }

    /// Whether it has the table of all symbols, which `strip` removes.
    #[must_use]
    pub fn has_symbol_table(&self) -> bool {
        self.section_by_kind(elf::SHT_SYMTAB).is_some()
    }

    fn collect(
        &self,
        table: &Section,
        number: u8,
        loaded: &Self,
        found: &mut Variables,
    ) -> Result<(), Error> {
        let bytes = size_of::<elf::Sym64<LE>>() as u64;
        let count = table.size / bytes;
        if count > MAX_SYMBOLS {
            return Err(Error::Limit { what: "symbols", value: count, limit: MAX_SYMBOLS });
        }
        let writable: Vec<_> = loaded.writable().collect();
        let block_size = loaded.thread_local_bytes();
        let mut next = 0;
        while next < count {
            let taken = SYMBOLS_AT_ONCE.min(count - next);
            let offset = table.offset.saturating_add(next * bytes);
            let block = self.source.read("symbols", offset, taken * bytes, SYMBOLS_AT_ONCE * bytes)?;
            for symbol in block.entries::<elf::Sym64<LE>>().iter().filter(|symbol| is_placed(symbol)) {
                let (address, size) = (symbol.st_value.get(LE), symbol.st_size.get(LE));
                let Some(end) = address.checked_add(size).filter(|_| size != 0) else { continue };
                let within = |range: &std::ops::Range<u64>| range.start <= address && end <= range.end;
                let entries = match symbol.st_info & 0xf {
                    elf::STT_OBJECT if writable.iter().any(within) => &mut found.common,
                    elf::STT_TLS if end <= block_size => &mut found.thread_local,
                    _ => continue,
                };
                let rank = match symbol.st_info >> 4 {
                    elf::STB_GLOBAL | elf::STB_GNU_UNIQUE => 0,
                    elf::STB_WEAK => 1,
                    _ => 2,
                };
                entries.push(Entry { address, size, name: symbol.st_name.get(LE), table: number, rank });
            }
            let value = found.common.len().saturating_add(found.thread_local.len());
            if value > MAX_VARIABLES {
                let (value, limit) = (value as u64, MAX_VARIABLES as u64);
                return Err(Error::Limit { what: "variables", value, limit });
            }
            next += taken;
        }
        Ok(())
    }
}

impl Variables {
    /// The variable at an ELF virtual address: the innermost, if one is inside another. `None` if there is none, or its name
    /// cannot be read.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Variable> {
        self.named(find(&self.common, address)?)
    }

    /// Where the next variable behind an ELF virtual address begins, be it inside of another or not; `u64::MAX`: nowhere.
    #[must_use]
    pub fn next(&self, address: u64) -> u64 {
        let next = self.common.partition_point(|entry| entry.address <= address);
        self.common.get(next).map_or(u64::MAX, |entry| entry.address)
    }

    /// The same as [`Variables::at`] of a place in the file's thread-local data.
    #[must_use]
    pub fn thread_local_at(&self, offset: u64) -> Option<Variable> {
        self.named(find(&self.thread_local, offset)?)
    }

    fn named(&self, entry: &Entry) -> Option<Variable> {
        let (offset, size) = *self.strings.get(usize::from(entry.table))?;
        let into = u64::from(entry.name);
        let length = size.checked_sub(into)?.min(MAX_NAME);
        let block = self.source.read("name of a symbol", offset.checked_add(into)?, length, MAX_NAME).ok()?;
        let name = plain(until_nul(block.bytes()).unwrap_or(block.bytes()));
        let name = String::from_utf8_lossy(name);
        let name = crate::profile::elide(&name, usize::try_from(MAX_NAME).ok()?).into_owned();
        (!name.is_empty()).then_some(Variable { name, address: entry.address, size: entry.size })
    }
}

/// In order of address, then of size, the largest first; of several names for one thing the one that is visible farthest.
fn sorted(mut entries: Vec<Entry>) -> Vec<Entry> {
    entries.sort_by_key(|entry| (entry.address, Reverse(entry.size), entry.rank));
    entries.dedup_by_key(|entry| (entry.address, entry.size));
    entries.shrink_to_fit();
    entries
}

fn find(entries: &[Entry], address: u64) -> Option<&Entry> {
    let end = entries.partition_point(|entry| entry.address <= address);
    let before = entries.get(..end)?.iter().rev().take(MAX_OVERLAPPING);
    before.into_iter().find(|entry| address.wrapping_sub(entry.address) < entry.size)
}

/// A name without what compilers and linkers put behind it: `stdout@GLIBC_2.2.5`, `cache.0`, `table.lto_priv.3`.
fn plain(name: &[u8]) -> &[u8] {
    let version = name.iter().position(|byte| *byte == b'@').filter(|at| *at > 0);
    let mut name = name.get(..version.unwrap_or(name.len())).unwrap_or_default();
    while let Some(dot) = name.iter().rposition(|byte| *byte == b'.').filter(|dot| *dot > 0) {
        let suffix = name.get(dot + 1..).unwrap_or_default();
        let is_number = !suffix.is_empty() && suffix.iter().all(u8::is_ascii_digit);
        if !is_number && suffix != b"lto_priv" {
            break;
        }
        name = name.get(..dot).unwrap_or_default();
    }
    name
}

#[cfg(test)]
mod tests;
