//! Floor 2: executables and shared objects: segments, symbols, build ids, probe sites.
//!
//! Files belong to untrusted processes, so everything is read in bounded pieces (see `source`) and every
//! number in them is checked before use.

mod calls;
mod debug;
mod descriptions;
mod dynamic;
mod error;
pub mod exits;
mod identity;
mod layout;
pub mod prologue;
mod sections;
mod slots;
mod source;
mod symbols;
mod variables;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use object::LittleEndian as LE;
use object::elf;

pub use debug::{CodeFile, DebugFile, debug_candidates};
pub use descriptions::Descriptions;
pub use error::Error;
pub use identity::FileId;
pub use sections::Data;
pub use slots::{Slot, Slots};
pub use symbols::{Symbol, SymbolKind};
pub use variables::{Variable, Variables};

use source::{Source, until_nul};

/// A linker writes about a dozen.
const MAX_PROGRAM_HEADERS: u64 = 1024;
/// Linked files have a few dozen; `e_shnum` cannot say more.
const MAX_SECTIONS: u64 = 0xffff;
/// PATH_MAX.
const MAX_PATH: u64 = 4096;

/// The processor a file is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// AMD64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// An executable `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it begins in the file, in bytes.
    pub offset: u64,
    /// Its ELF virtual address.
    pub address: u64,
    /// Its bytes in the file.
    pub file_size: u64,
    /// Its bytes in memory.
    pub memory_size: u64,
}

/// An ELF file: 64-bit, little-endian, x86_64 or aarch64.
///
/// Keeps the file open; tables are read on demand.
#[derive(Debug)]
pub struct Image {
    source: Source,
    machine: Machine,
    fixed_address: bool,
    entry: u64,
    names_section: u16,
    segments: Vec<Segment>,
    parts: Vec<Part>,
    sections: Vec<Section>,
}

/// A program header.
#[derive(Clone, Copy, Debug)]
struct Part {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
    memory_size: u64,
    flags: u32,
    align: u64,
}

/// A section header.
#[derive(Clone, Copy, Debug)]
struct Section {
    name: u32,
    kind: u32,
    flags: u64,
    address: u64,
    offset: u64,
    size: u64,
    link: u32,
    align: u64,
}

impl Image {
    /// Opens a file. A pipe or device at `path` is rejected without blocking.
    ///
    /// # Errors
    /// The file cannot be opened, is not regular, is empty or over 4 GiB, or is not an ELF file of a supported kind.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
            .open(path)
            .map_err(|source| Error::Open { path: path.to_owned(), source })?;
        Self::from_file(file)
    }

    /// Reads the headers of an open file.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn from_file(file: File) -> Result<Self, Error> {
        Self::from_shared(Arc::new(file))
    }

    /// The same of a file that others hold too.
    ///
    /// # Errors
    /// As [`Image::open`].
    pub fn from_shared(file: Arc<File>) -> Result<Self, Error> {
        let source = Source::new(file)?;
        let ident_size = size_of::<elf::Ident>() as u64;
        let ident = source.read("ELF identification", 0, ident_size, ident_size)?;
        check_ident(ident.bytes())?;
        let size = size_of::<elf::FileHeader64<LE>>() as u64;
        let block = source.read("ELF header", 0, size, size)?;
        let header =
            block.entries::<elf::FileHeader64<LE>>().first().ok_or(Error::Malformed("ELF header"))?;
        let machine = match header.e_machine.get(LE) {
            elf::EM_X86_64 => Machine::X86_64,
            elf::EM_AARCH64 => Machine::Aarch64,
            machine => return Err(Error::Machine { machine }),
        };
        let kind = header.e_type.get(LE);
        if kind != elf::ET_EXEC && kind != elf::ET_DYN {
            return Err(Error::Malformed("neither an executable nor a shared object"));
        }
        let (segments, parts) = program_headers(&source, header)?;
        Ok(Self {
            sections: section_headers(&source, header)?,
            names_section: header.e_shstrndx.get(LE),
            fixed_address: kind == elf::ET_EXEC,
            entry: header.e_entry.get(LE),
            source,
            machine,
            segments,
            parts,
        })
    }

    /// The processor it is built for.
    #[must_use]
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// Where the kernel starts a program or loader, as an ELF virtual address; 0 for other files.
    #[must_use]
    pub fn entry(&self) -> u64 {
        self.entry
    }

    /// The executable segments, in the file's order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The file offset of an ELF virtual address in an executable segment.
    ///
    /// Other segments are left out on purpose: lld lets them overlap in the file, so that an offset found
    /// through them may belong to another address.
    #[must_use]
    pub fn vaddr_to_offset(&self, address: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = address.checked_sub(segment.address).filter(|into| *into < segment.file_size)?;
            segment.offset.checked_add(into)
        })
    }

    /// The ELF virtual address of a file offset in an executable segment.
    #[cfg(test)]
    pub(crate) fn offset_to_vaddr(&self, offset: u64) -> Option<u64> {
        self.segments.iter().find_map(|segment| {
            let into = offset.checked_sub(segment.offset).filter(|into| *into < segment.file_size)?;
            segment.address.checked_add(into)
        })
    }

    /// What to add (wrapping) to an ELF virtual address to get the address in a process that maps the file
    /// executable at `map_start` from file offset `map_pgoff` (in bytes, as `/proc/PID/maps` has it).
    ///
    /// `None` when no executable segment can be behind such a mapping.
    #[must_use]
    pub fn mapping_bias(&self, map_start: u64, map_pgoff: u64) -> Option<u64> {
        self.bias_with_page_size(map_start, map_pgoff, page_size())
    }

    /// The same for a mapping that need not be executable: of any loaded segment.
    #[must_use]
    pub fn bias_of_any(&self, map_start: u64, map_pgoff: u64) -> Option<u64> {
        let page = page_size();
        let part = self.parts.iter().find(|part| {
            let end = part.offset.saturating_add(part.size);
            part.kind == elf::PT_LOAD && part.offset & !(page - 1) <= map_pgoff && map_pgoff < end
        })?;
        let address = part.address.wrapping_add(map_pgoff).wrapping_sub(part.offset);
        Some(map_start.wrapping_sub(address))
    }

    fn bias_with_page_size(&self, map_start: u64, map_pgoff: u64, page: u64) -> Option<u64> {
        let first_page = |segment: &Segment| segment.offset & !page.wrapping_sub(1);
        let covers = |segment: &Segment| {
            let end = segment.offset.saturating_add(segment.file_size);
            first_page(segment) <= map_pgoff && map_pgoff < end
        };
        // If small segments share a page, the mapping belongs to the one that begins there.
        let begins = |segment: &&Segment| first_page(segment) == map_pgoff && covers(segment);
        let segment = self
            .segments
            .iter()
            .find(begins)
            .or_else(|| self.segments.iter().find(|segment| covers(segment)))?;
        let address = segment.address.wrapping_add(map_pgoff).wrapping_sub(segment.offset);
        Some(map_start.wrapping_sub(address))
    }

    /// Up to `len` bytes of code at an ELF virtual address; fewer at the end of the segment.
    ///
    /// # Errors
    /// The address is in no executable segment, `len` is over 1 MiB, or the file is too short.
    pub fn code(&self, address: u64, len: u64) -> Result<Vec<u8>, Error> {
        const LIMIT: u64 = 1 << 20;
        let not_code = Error::NotCode { address };
        let within = |segment: &&Segment| {
            address.checked_sub(segment.address).is_some_and(|into| into < segment.file_size)
        };
        let segment = self.segments.iter().find(within).ok_or(not_code)?;
        let into = address.wrapping_sub(segment.address);
        let len = len.min(segment.file_size.wrapping_sub(into));
        Ok(self.source.read("code", segment.offset.saturating_add(into), len, LIMIT)?.bytes().to_vec())
    }

    /// The dynamic loader the file asks for (`PT_INTERP`); `None` for static files and most libraries.
    ///
    /// # Errors
    /// The path is over 4 KiB, not terminated, or outside the file.
    pub fn interpreter(&self) -> Result<Option<PathBuf>, Error> {
        let Some(part) = self.parts.iter().find(|part| part.kind == elf::PT_INTERP) else {
            return Ok(None);
        };
        let block = self.source.read("interpreter", part.offset, part.size, MAX_PATH)?;
        let path = until_nul(block.bytes()).ok_or(Error::Malformed("interpreter is not terminated"))?;
        let path = PathBuf::from(std::ffi::OsString::from_vec(path.to_vec()));
        Ok((!path.as_os_str().is_empty()).then_some(path))
    }

    fn section_by_kind(&self, kind: u32) -> Option<&Section> {
        self.sections.iter().find(|section| section.kind == kind)
    }

    fn linked(&self, section: &Section) -> Result<&Section, Error> {
        usize::try_from(section.link)
            .ok()
            .and_then(|index| self.sections.get(index))
            .filter(|strings| strings.kind == elf::SHT_STRTAB)
            .ok_or(Error::Malformed("a table's strings are no string table"))
    }
}

fn check_ident(ident: &[u8]) -> Result<(), Error> {
    match ident {
        [0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB, ..] => Ok(()),
        [0x7f, b'E', b'L', b'F', class, data, ..] => Err(Error::NotLittle64 { class: *class, data: *data }),
        _ => Err(Error::NotElf),
    }
}

fn program_headers(
    source: &Source,
    header: &elf::FileHeader64<LE>,
) -> Result<(Vec<Segment>, Vec<Part>), Error> {
    let entry = size_of::<elf::ProgramHeader64<LE>>() as u64;
    let count = u64::from(header.e_phnum.get(LE));
    if count != 0 && u64::from(header.e_phentsize.get(LE)) != entry {
        return Err(Error::Malformed("size of a program header"));
    }
    if count > MAX_PROGRAM_HEADERS {
        return Err(Error::Limit { what: "program headers", value: count, limit: MAX_PROGRAM_HEADERS });
    }
    let bytes = count * entry;
    let block = source.read("program headers", header.e_phoff.get(LE), bytes, bytes)?;
    let (mut segments, mut parts) = (Vec::new(), Vec::new());
    for program in block.entries::<elf::ProgramHeader64<LE>>() {
        let (offset, size) = (program.p_offset.get(LE), program.p_filesz.get(LE));
        let (kind, address) = (program.p_type.get(LE), program.p_vaddr.get(LE));
        let (memory_size, flags) = (program.p_memsz.get(LE), program.p_flags.get(LE));
        if kind == elf::PT_LOAD && flags & elf::PF_X != 0 {
            segments.push(Segment { offset, address, file_size: size, memory_size });
        }
        let align = program.p_align.get(LE);
        parts.push(Part { kind, offset, address, size, memory_size, flags, align });
    }
    Ok((segments, parts))
}

fn section_headers(source: &Source, header: &elf::FileHeader64<LE>) -> Result<Vec<Section>, Error> {
    let entry = size_of::<elf::SectionHeader64<LE>>() as u64;
    let count = u64::from(header.e_shnum.get(LE));
    if count != 0 && u64::from(header.e_shentsize.get(LE)) != entry {
        return Err(Error::Malformed("size of a section header"));
    }
    let block =
        source.read("section headers", header.e_shoff.get(LE), count * entry, MAX_SECTIONS * entry)?;
    let section = |section: &elf::SectionHeader64<LE>| Section {
        name: section.sh_name.get(LE),
        kind: section.sh_type.get(LE),
        flags: section.sh_flags.get(LE),
        address: section.sh_addr.get(LE),
        offset: section.sh_offset.get(LE),
        size: section.sh_size.get(LE),
        link: section.sh_link.get(LE),
        align: section.sh_addralign.get(LE),
    };
    Ok(block.entries().iter().map(section).collect())
}

/// Bytes in a page of this machine, whose kernel also makes the target's mappings.
#[must_use]
pub fn page_size() -> u64 {
    use nix::unistd::{SysconfVar, sysconf};
    let size = sysconf(SysconfVar::PAGE_SIZE).ok().flatten();
    size.and_then(|size| u64::try_from(size).ok()).filter(|size| size.is_power_of_two()).unwrap_or(4096)
}
