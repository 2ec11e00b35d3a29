//! A file's symbol tables, by address.

use object::{
    LittleEndian as LE, elf,
    read::elf::{ElfFile64, SectionHeader as _, Sym as _},
};

/// The most symbols of a table that are read: more than any program has.
const MOST: usize = 4 << 20;

/// The most bytes read of a name.
const LONGEST: usize = 4 << 20;

/// A function as its symbol describes it.
pub(super) struct Function {
    /// Its name as in the file.
    pub(super) name: &'static [u8],
    /// Its first address.
    pub(super) start: u64,
}

#[derive(Clone, Copy)]
struct Symbol {
    start: u64,
    size: u64,
    is_local: bool,
    name: u32,
}

/// The functions of one table, by address.
pub(super) struct Table {
    symbols: Vec<Symbol>,
    names: &'static [u8],
    /// Whether the table lists every function: one without a size then extends to the next.
    is_whole: bool,
}

impl Table {
    /// A table of a file: `SHT_SYMTAB` or `SHT_DYNSYM`. Empty if the file has none, or a damaged one.
    pub(super) fn new(file: &ElfFile64<'static, LE>, data: &'static [u8], kind: u32) -> Self {
        Self::read(file, data, kind).unwrap_or(Self { symbols: Vec::new(), names: &[], is_whole: false })
    }

    fn read(file: &ElfFile64<'static, LE>, data: &'static [u8], kind: u32) -> Option<Self> {
        let sections = file.elf_section_table();
        let section = sections.iter().find(|section| section.sh_type(LE) == kind)?;
        let entries: &[elf::Sym64<LE>] = section.data_as_array(LE, data).ok()?;
        let strings = sections.section(object::SectionIndex(section.sh_link(LE) as usize)).ok()?;
        let names = strings.data(LE, data).ok()?;
        let is_function = |symbol: &&elf::Sym64<LE>| {
            matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_GNU_IFUNC)
                && symbol.st_shndx(LE) != elf::SHN_UNDEF
        };
        let mut symbols: Vec<Symbol> = entries
            .iter()
            .take(MOST)
            .filter(is_function)
            .map(|symbol| Symbol {
                start: symbol.st_value(LE),
                size: symbol.st_size(LE),
                is_local: symbol.st_bind() == elf::STB_LOCAL,
                name: symbol.st_name(LE),
            })
            .collect();
        // Of several at one address, the largest comes first, and of these a global one.
        symbols.sort_by_key(|symbol| (symbol.start, std::cmp::Reverse(symbol.size), symbol.is_local));
        Some(Self { symbols, names, is_whole: kind == elf::SHT_SYMTAB })
    }

    /// The function at an address.
    pub(super) fn find(&self, address: u64) -> Option<Function> {
        let after = self.symbols.partition_point(|symbol| symbol.start <= address);
        let start = self.symbols.get(after.checked_sub(1)?)?.start;
        let first = self.symbols.partition_point(|symbol| symbol.start < start);
        let contains = |symbol: &&Symbol| match symbol.size {
            0 => self.is_whole || symbol.start == address,
            size => address - symbol.start < size,
        };
        let found = self.symbols.get(first..after)?.iter().find(contains)?;
        let name = self.names.get(usize::try_from(found.name).ok()?..)?;
        let name = name.get(..LONGEST).unwrap_or(name);
        let name = name.split(|byte| *byte == 0).next().filter(|name| !name.is_empty())?;
        Some(Function { name, start: found.start })
    }
}
