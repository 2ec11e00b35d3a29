//! Where a file's debug information may be: build id, debug link, and the paths they lead to.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use object::elf;

use super::source::until_nul;
use super::{Error, FileId, Image};

const MAX_NOTES: u64 = 64 << 10;
const MAX_DEBUGLINK: u64 = 512;
const MAX_ALTLINK: u64 = 4096 + 64;
/// `ld --build-id=0x…` may be of any length; the usual ones have 16 or 20 bytes.
const BUILD_ID_BYTES: std::ops::RangeInclusive<usize> = 2..=64;
const DEBUG_ROOT: &str = "usr/lib/debug";

/// An open file with code, and its debug files: everything needed to name functions.
#[derive(Clone, Debug)]
pub struct CodeFile {
    /// The path as the target sees it.
    pub name: Arc<str>,
    /// The file: regular, and of at most 4 GiB.
    pub file: Arc<File>,
    /// Its separate debug file, if it has one.
    pub debug: Option<DebugFile>,
    /// Which file it is, and which its debug file.
    pub id: (FileId, Option<FileId>),
    /// A debug file that is not used: it belongs to another build.
    pub misfit: Option<PathBuf>,
    /// Set for a map of code that a process generates, which is no ELF file: a number for the code, and how often the map has
    /// changed.
    pub generated: Option<(u64, u64)>,
}

impl CodeFile {
    /// Joins a file, which is `id`, and its debug file.
    #[must_use]
    pub fn new(
        name: Arc<str>,
        (file, id): (Arc<File>, FileId),
        debug: Option<DebugFile>,
        misfit: Option<PathBuf>,
    ) -> Self {
        let of_debug = debug.as_ref().and_then(|debug| debug.file.metadata().ok());
        let id = (id, of_debug.map(|metadata| FileId::new(&metadata)));
        Self { name, file, debug, id, misfit, generated: None }
    }
}

/// A separate debug file: regular, of at most 4 GiB, and with the build id of its file if that has one.
#[derive(Clone, Debug)]
pub struct DebugFile {
    /// The file.
    pub file: Arc<File>,
    /// The checksum in the link to it, which has not been compared yet; `None` for a path by build id.
    pub crc: Option<u32>,
    /// The file that it shares parts with (`.gnu_debugaltlink`).
    pub shared: Option<Arc<File>>,
}

/// The contents of `.gnu_debuglink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// The debug file's name, unchecked: [`debug_candidates`] checks it.
    pub name: OsString,
    /// The debug file's CRC-32.
    pub crc: u32,
}

impl Image {
    /// The build id, 2 to 64 bytes. A note that does not parse counts as none, and so do notes over 64 KiB
    /// together: those are probe descriptions and the like.
    ///
    /// # Errors
    /// A note section is outside the file.
    pub fn build_id(&self) -> Result<Option<Vec<u8>>, Error> {
        // Sections first: in a debug file the segments still have the offsets of the original.
        let sections = self.sections.iter().filter(|section| section.kind == elf::SHT_NOTE);
        let sections = sections.map(|section| (section.offset, section.size, section.align));
        let parts = self.parts.iter().filter(|part| part.kind == elf::PT_NOTE);
        let parts = parts.map(|part| (part.offset, part.size, part.align));
        for (offset, size, align) in sections.chain(parts).filter(|(_, size, _)| *size <= MAX_NOTES) {
            let block = self.source.read("notes", offset, size, MAX_NOTES)?;
            if let Some(id) = find_build_id(block.bytes(), align) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// The debug link, if the file has one.
    ///
    /// # Errors
    /// The section is over its limit, malformed, or outside the file.
    pub fn debuglink(&self) -> Result<Option<DebugLink>, Error> {
        let Some(section) = self.section_by_name(b".gnu_debuglink")? else { return Ok(None) };
        let block = self.source.read("debug link", section.offset, section.size, MAX_DEBUGLINK)?;
        parse_debuglink(block.bytes()).map(Some).ok_or(Error::Malformed("debug link"))
    }
}

impl Image {
    /// The build id of the file that this one shares debug information with (`.gnu_debugaltlink`, written by dwz). Where
    /// that is, the section says too, but by a path that must not be followed.
    ///
    /// # Errors
    /// The section is over its limit, malformed, or outside the file.
    pub fn shared_build_id(&self) -> Result<Option<Vec<u8>>, Error> {
        let Some(section) = self.section_by_name(b".gnu_debugaltlink")? else { return Ok(None) };
        let block = self.source.read("debug link", section.offset, section.size, MAX_ALTLINK)?;
        let name = until_nul(block.bytes()).ok_or(Error::Malformed("debug link"))?;
        let id = block.bytes().get(name.len() + 1..).unwrap_or_default();
        Ok(Some(id.to_vec()).filter(|id| BUILD_ID_BYTES.contains(&id.len())))
    }
}

fn parse_debuglink(bytes: &[u8]) -> Option<DebugLink> {
    let name = until_nul(bytes).filter(|name| !name.is_empty())?;
    let crc = name.len().checked_add(1)?.checked_next_multiple_of(4)?;
    let crc = bytes.get(crc..)?.first_chunk()?;
    Some(DebugLink { name: OsString::from_vec(name.to_vec()), crc: u32::from_le_bytes(*crc) })
}

fn find_build_id(mut notes: &[u8], align: u64) -> Option<Vec<u8>> {
    // Only 8 differs: 0, 1 and 2 occur and mean 4.
    let align = if align == 8 { 8 } else { 4 };
    loop {
        let (fields, _) = notes.as_chunks::<4>();
        let [name_len, desc_len, kind, ..] = fields else { return None };
        let name_len = usize::try_from(u32::from_le_bytes(*name_len)).ok()?;
        let desc_len = usize::try_from(u32::from_le_bytes(*desc_len)).ok()?;
        let kind = u32::from_le_bytes(*kind);
        let name = notes.get(12..name_len.checked_add(12)?)?;
        let desc = name_len.checked_add(12)?.checked_next_multiple_of(align)?;
        let end = desc.checked_add(desc_len)?;
        let bytes = notes.get(desc..end)?;
        if name == b"GNU\0" && kind == elf::NT_GNU_BUILD_ID && BUILD_ID_BYTES.contains(&bytes.len()) {
            return Some(bytes.to_vec());
        }
        notes = notes.get(end.checked_next_multiple_of(align)?..)?;
    }
}

/// Paths at which the debug file of a file in `file_dir` may be, best first.
///
/// They are relative: join them to the root directory of the process that maps the file. They never lead
/// out of the directories named here by their own components; a symbolic link in the target's tree still
/// can, so open them the way every other path of the target is opened. A link name with a slash, `.`, `..`,
/// or a `file_dir` with `..` yields nothing.
#[must_use]
pub fn debug_candidates(
    build_id: Option<&[u8]>,
    debuglink: Option<&DebugLink>,
    file_dir: &Path,
) -> Vec<PathBuf> {
    let by_id = build_id.and_then(build_id_path);
    let name = debuglink.and_then(|link| plain_name(&link.name));
    let by_link = name.zip(inside_root(file_dir)).map(|(name, dir)| {
        [dir.join(".debug").join(name), dir.join(name), Path::new(DEBUG_ROOT).join(&dir).join(name)]
    });
    by_id.into_iter().chain(by_link.into_iter().flatten()).collect()
}

fn build_id_path(id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first().filter(|_| BUILD_ID_BYTES.contains(&id.len()))?;
    let rest: String = rest.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(PathBuf::from(format!("{DEBUG_ROOT}/.build-id/{first:02x}/{rest}.debug")))
}

/// The name, if it is a single path component.
fn plain_name(name: &OsStr) -> Option<&OsStr> {
    let plain = !name.as_bytes().iter().any(|byte| matches!(byte, b'/' | 0));
    let mut components = Path::new(name).components();
    match (components.next(), components.next()) {
        (Some(Component::Normal(only)), None) if plain => Some(only),
        _ => None,
    }
}

/// The directory without its leading slash; `None` if it contains `..`.
fn inside_root(dir: &Path) -> Option<PathBuf> {
    dir.components()
        .filter(|component| !matches!(component, Component::RootDir | Component::CurDir))
        .map(|component| match component {
            Component::Normal(name) => Some(name),
            _ => None,
        })
        .collect()
}
