//! Parts of a file by name or address, as bytes.

use object::elf;

use super::source::{Block, until_nul};
use super::{Error, Image, Section};

const MAX_SECTION_NAMES: u64 = 1 << 20;
/// Bytes read of `.eh_frame_hdr`: the part before its table is 12 bytes, or 28 with the widest encodings.
const FRAME_HEADER: u64 = 64;

/// Bytes of a file and their address in memory.
pub struct Data {
    /// ELF virtual address of the first byte; 0 for what is not loaded.
    pub address: u64,
    block: Block,
}

impl Data {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes()
    }
}

impl Image {
    /// A section, as in the file; `None` if the file has none of that name, or has no bytes for it.
    ///
    /// # Errors
    /// The section has more than `limit` bytes or is outside the file; the same goes for the names of sections (1 MiB).
    pub fn section_data(&self, name: &str, limit: u64) -> Result<Option<Data>, Error> {
        let Some(section) = self.section_by_name(name.as_bytes())? else { return Ok(None) };
        let block = self.source.read("section", section.offset, section.size, limit)?;
        Ok(Some(Data { address: section.address, block }))
    }

    /// The first 64 bytes of `.eh_frame_hdr`, found without section headers (`PT_GNU_EH_FRAME`).
    ///
    /// # Errors
    /// The segment is outside the file.
    pub fn frame_header(&self) -> Result<Option<Data>, Error> {
        let Some(part) = self.parts.iter().find(|part| part.kind == elf::PT_GNU_EH_FRAME) else {
            return Ok(None);
        };
        let size = part.size.min(FRAME_HEADER);
        let block = self.source.read("frame header", part.offset, size, FRAME_HEADER)?;
        Ok(Some(Data { address: part.address, block }))
    }

    /// The bytes of a file from an ELF virtual address to the end of its segment; `None` if it is in none.
    ///
    /// # Errors
    /// These are more than `limit` bytes or outside the file.
    pub fn loaded_data(&self, address: u64, limit: u64) -> Result<Option<Data>, Error> {
        let into = |part: &super::Part| address.checked_sub(part.address).filter(|into| *into < part.size);
        let loads = self.parts.iter().filter(|part| part.kind == elf::PT_LOAD);
        let Some((part, into)) = loads.filter_map(|part| Some((part, into(part)?))).next() else {
            return Ok(None);
        };
        let offset = part.offset.saturating_add(into);
        let block = self.source.read("segment", offset, part.size.saturating_sub(into), limit)?;
        Ok(Some(Data { address, block }))
    }

    /// The first section of that name which has bytes in the file.
    pub(super) fn section_by_name(&self, wanted: &[u8]) -> Result<Option<&Section>, Error> {
        let Some(names) = self.section_names()? else { return Ok(None) };
        let name_of = |offset: u32| names.bytes().get(usize::try_from(offset).ok()?..).and_then(until_nul);
        let in_file = |kind| !matches!(kind, elf::SHT_NULL | elf::SHT_NOBITS);
        let found = |section: &&Section| in_file(section.kind) && name_of(section.name) == Some(wanted);
        Ok(self.sections.iter().find(found))
    }

    /// The names of sections; `None` if the file has none.
    pub(super) fn section_names(&self) -> Result<Option<Block>, Error> {
        let names = self.sections.get(usize::from(self.names_section));
        let Some(names) = names.filter(|names| names.kind == elf::SHT_STRTAB) else { return Ok(None) };
        self.source.read("section names", names.offset, names.size, MAX_SECTION_NAMES).map(Some)
    }
}
