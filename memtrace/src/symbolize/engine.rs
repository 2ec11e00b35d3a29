//! Functions and lines of addresses in a file. Runs in the child, on files of strangers.

use std::{fs::File, os::unix::fs::FileExt as _};

use addr2line::Context;
use gimli::{Dwarf, EndianSlice, LittleEndian, SectionId, UnitRef};
use object::elf::{SHT_DYNSYM, SHT_SYMTAB};
use rustc_hash::FxHashMap;

use super::{
    demangle::{self, name},
    generated::Map,
    sections::{Elf, Problem, Sections, map},
    symbols::{Function, Table},
    wire::{DebugLoad, Load, Named, Trouble},
};
use crate::profile::{Unread, elide};

type Reader = EndianSlice<'static, LittleEndian>;

/// The most nested inlined functions listed: of more, the outermost.
const INLINED: usize = 32;

/// The files that were received.
#[derive(Default)]
pub(super) struct Engine {
    sections: Sections,
    objects: FxHashMap<u64, Object>,
}

/// What is known about a file.
#[derive(Default)]
struct Object {
    debug: Option<Context<Reader>>,
    /// In order of preference.
    tables: Vec<Table>,
    /// Instead of these, the map of generated code.
    map: Option<Map>,
    /// Whether the debug information was found to be damaged.
    is_damaged: bool,
}

impl Engine {
    /// Loads a file, with its debug file and the file that shares parts with that, if it has these. Returns what is
    /// wrong with them; the rest is used.
    pub(super) fn load(&mut self, number: u64, load: Load, files: &[File]) -> Vec<Trouble> {
        let mut object = Object::default();
        let mut problems = Vec::new();
        let [file, others @ ..] = files else { return problems };
        if load.is_map {
            match Map::read(file, load.size) {
                Ok(map) => object.map = Some(map),
                Err(error) => problems.push(trouble(Unread::Symbols, &error.into())),
            }
            self.objects.insert(number, object);
            return problems;
        }
        if let (Some(load), [debug, others @ ..]) = (load.debug, others) {
            let shared = load.shared.zip(others.first());
            if let Err(problem) = self.add_debug(&mut object, debug, load, shared) {
                problems.push(trouble(Unread::DebugFile, &problem));
            }
        }
        let with_dwarf = !load.only_symbols && object.debug.is_none();
        match self.add(&mut object, file, load.size, with_dwarf, None) {
            Ok(None) => {}
            Ok(Some(problem)) => problems.push(trouble(Unread::DebugInfo, &problem)),
            Err(problem) => problems.push(trouble(Unread::Symbols, &problem)),
        }
        self.objects.insert(number, object);
        problems
    }

    fn add_debug(
        &mut self,
        object: &mut Object,
        file: &File,
        load: DebugLoad,
        shared: Option<(u64, &File)>,
    ) -> Result<(), Refused> {
        if load.crc.is_some_and(|crc| checksum(file, load.size).ok() != Some(crc)) {
            return Err(Refused::Checksum);
        }
        self.add(object, file, load.size, true, shared)?.map_or(Ok(()), Err)
    }

    /// Adds a file's symbols, and its debug information if it has any; what is wrong with the latter.
    fn add(
        &mut self,
        object: &mut Object,
        file: &File,
        size: u64,
        with_dwarf: bool,
        shared: Option<(u64, &File)>,
    ) -> Result<Option<Refused>, Refused> {
        let (elf, data) = open(file, size)?;
        object.tables.extend([SHT_SYMTAB, SHT_DYNSYM].map(|kind| Table::new(&elf, data, kind)));
        if !with_dwarf {
            return Ok(None);
        }
        match self.dwarf(&elf, data, shared) {
            Ok(dwarf) => {
                object.debug = dwarf;
                Ok(None)
            }
            Err(problem) => Ok(Some(problem)),
        }
    }

    fn dwarf(
        &mut self,
        elf: &Elf,
        data: &'static [u8],
        shared: Option<(u64, &File)>,
    ) -> Result<Option<Context<Reader>>, Refused> {
        if self.sections.bytes(elf, data, SectionId::DebugInfo.name())?.is_empty() {
            return Ok(None);
        }
        let mut dwarf = self.read(elf, data)?;
        if let Some((size, shared)) = shared {
            let (elf, data) = open(shared, size)?;
            dwarf.set_sup(self.read(&elf, data)?);
        } else if !self.sections.bytes(elf, data, ".gnu_debugaltlink")?.is_empty() {
            return Err(Refused::Elsewhere);
        }
        Ok(Some(Context::from_dwarf(dwarf)?))
    }

    fn read(&mut self, elf: &Elf, data: &'static [u8]) -> Result<Dwarf<Reader>, Refused> {
        Dwarf::load(|id| {
            let bytes = self.sections.bytes(elf, data, id.name())?;
            Ok(EndianSlice::new(bytes, LittleEndian))
        })
    }

    /// The functions at an address of a file: inlined ones first, the function itself last. Empty if nothing is
    /// known. Problems found are added to `problems`.
    pub(super) fn name(&mut self, number: u64, address: u64, problems: &mut Vec<Trouble>) -> Vec<Named> {
        let Some(object) = self.objects.get_mut(&number) else { return Vec::new() };
        if let Some(map) = &object.map {
            return map.find(address).into_iter().collect();
        }
        let found = object.debug.as_ref().map_or(Ok(Vec::new()), |debug| frames(debug, address));
        let mut frames = found.unwrap_or_else(|error| {
            if !std::mem::replace(&mut object.is_damaged, true) {
                problems.push(trouble(Unread::PartOfDebugInfo, &Refused::Dwarf(error)));
            }
            Vec::new()
        });
        let symbol = || object.tables.iter().find_map(|table| table.find(address));
        match frames.last_mut() {
            Some(Named { function: Some(_), start: Some(_), .. }) => {}
            Some(last) => {
                if let Some(Function { name: raw, start }) = symbol() {
                    last.start = Some(start);
                    last.function.get_or_insert_with(|| name(raw));
                }
                if last.function.is_none() {
                    return Vec::new();
                }
            }
            None => {
                let named = |Function { name: raw, start }| Named {
                    function: Some(name(raw)),
                    start: Some(start),
                    file: None,
                    line: None,
                    inlined: false,
                };
                frames.extend(symbol().map(named));
            }
        }
        // Inlined code is inside the function itself.
        let start = frames.last().and_then(|last| last.start);
        frames.iter_mut().for_each(|frame| frame.start = start);
        frames
    }
}

fn trouble(unread: Unread, problem: &Refused) -> Trouble {
    Trouble { unread, error: problem.to_string() }
}

/// Maps an ELF file.
fn open(file: &File, size: u64) -> Result<(Elf, &'static [u8]), Refused> {
    let data = map(file, size)?;
    Ok((Elf::parse(data).map_err(Problem::from)?, data))
}

/// Why a file or its debug information is not used.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("its checksum differs from the one in .gnu_debuglink")]
    Checksum,
    #[error("parts of it are in another file (.gnu_debugaltlink), which was not found")]
    Elsewhere,
    #[error(transparent)]
    Section(#[from] Problem),
    #[error("it is damaged ({0})")]
    Dwarf(#[from] gimli::Error),
    #[error("it cannot be read ({0})")]
    Read(#[from] std::io::Error),
}

/// The CRC-32 of a file. It is read, not mapped, so that holes of a sparse file cost nothing.
fn checksum(file: &File, size: u64) -> std::io::Result<u32> {
    let mut crc = flate2::Crc::new();
    let mut block = vec![0; 1 << 18];
    let mut at = 0;
    while at < size {
        match file.read_at(&mut block, at)? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            length => {
                crc.update(block.get(..length).unwrap_or_default());
                at += length as u64;
            }
        }
    }
    Ok(crc.sum())
}

/// What the debug information says about an address.
fn frames(debug: &Context<Reader>, address: u64) -> Result<Vec<Named>, gimli::Error> {
    let mut frames = Vec::new();
    let mut iter = debug.find_frames(address).skip_all_loads()?;
    let mut last = None;
    while let Some(frame) = iter.next()? {
        last = frame.dw_die_offset;
        let (file, line) = frame.location.map_or((None, None), |location| (location.file, location.line));
        if frames.len() == INLINED {
            frames.remove(0);
        }
        frames.push(Named {
            function: frame.function.map(|function| name(function.name.slice())),
            start: None,
            file: file.map(|file| elide(file, demangle::MOST).into_owned()),
            line,
            inlined: true,
        });
    }
    if let Some(function) = frames.last_mut() {
        function.inlined = false;
        let unit = debug.find_dwarf_and_unit(address).skip_all_loads();
        function.start = unit.zip(last).and_then(|(unit, offset)| start(unit, offset, address));
    }
    Ok(frames)
}

/// Where the part of a function that contains an address begins.
fn start(unit: UnitRef<'_, Reader>, function: gimli::UnitOffset, address: u64) -> Option<u64> {
    let entry = unit.entry(function).ok()?;
    let mut ranges = unit.die_ranges(&entry).ok()?;
    while let Ok(Some(range)) = ranges.next() {
        if (range.begin..range.end).contains(&address) {
            return Some(range.begin);
        }
    }
    None
}
