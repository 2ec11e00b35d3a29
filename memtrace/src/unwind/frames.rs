//! Reads call frame information: which code it describes, and the rules in force there.

use gimli::{
    BaseAddresses, CieOrFde, CommonInformationEntry, DebugFrame, EhFrame, EhFrameHdr, EndianSlice,
    LittleEndian, UnwindContext, UnwindOffset, UnwindSection, Vendor,
};
use rustc_hash::FxHashMap;

use super::rules::{Frame, Rule};
use super::{Error, Limits};
use crate::elf::{Data, Image, Machine};

/// Bytes of a file with their order.
pub(super) type Bytes<'d> = EndianSlice<'d, LittleEndian>;

/// The largest section accepted, in bytes; that of a 200 MB compiler has 8 MB.
const MAX_SECTION: u64 = 128 << 20;
/// FDEs of a file; that compiler has 160,000.
const MAX_ENTRIES: u64 = 2 << 20;
/// The longest FDE accepted, in bytes; the longest seen has 34 KB. Time is checked between FDEs.
const MAX_FDE: u64 = 256 << 10;
/// The longest CIE accepted, in bytes: it is evaluated for each of its FDEs. They have 20 to 40 bytes.
const MAX_CIE: u64 = 1 << 10;
/// CIEs that are cached. A linker merges those of all objects into a few.
const MAX_CIES: usize = 256;
const ADDRESS_SIZE: u8 = 8;
/// FDEs between two checks of the clock.
pub(super) const CLOCK_INTERVAL: usize = 16;

/// The sections of a file that describe frames.
pub(super) struct Sections {
    eh: Option<Data>,
    debug: Option<Data>,
}

impl Sections {
    pub(super) fn read(image: &Image) -> Result<Self, Error> {
        Ok(Self { eh: eh_frame(image)?, debug: image.section_data(".debug_frame", MAX_SECTION)? })
    }
}

fn eh_frame(image: &Image) -> Result<Option<Data>, Error> {
    if let Some(data) = image.section_data(".eh_frame", MAX_SECTION)? {
        return Ok(Some(data));
    }
    let Some(header) = image.frame_header()? else { return Ok(None) };
    let bases = BaseAddresses::default().set_eh_frame_hdr(header.address);
    let parsed = EhFrameHdr::new(header.bytes(), LittleEndian).parse(&bases, ADDRESS_SIZE)?;
    // It ends with an entry of length 0, wherever the segment ends.
    Ok(image.loaded_data(parsed.eh_frame_ptr().direct()?, MAX_SECTION)?)
}

/// Which section an entry is in. Of two entries for the same address, that in `.eh_frame` counts: it is what
/// exceptions use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Eh,
    Debug,
}

/// An FDE: where it is and what code it describes, by ELF virtual addresses.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) begin: u64,
    pub(super) end: u64,
    place: Place,
    offset: usize,
}

/// Receives ranges of code, ascending and without holes, and their rules.
pub(super) type Emit<'e> = dyn FnMut(u64, u64, Rule) -> Result<(), Error> + 'e;

/// The call frame information of a file.
pub(super) struct Cfi<'d> {
    eh: Part<'d, EhFrame<Bytes<'d>>>,
    debug: Part<'d, DebugFrame<Bytes<'d>>>,
    context: UnwindContext<usize>,
}

impl<'d> Cfi<'d> {
    pub(super) fn new(sections: &'d Sections, machine: Machine, limits: Limits) -> Self {
        let vendor = match machine {
            Machine::X86_64 => Vendor::Default,
            Machine::Aarch64 => Vendor::AArch64,
        };
        let bytes = |data: &'d Option<Data>| data.as_ref().map(Data::bytes).unwrap_or_default();
        let address = sections.eh.as_ref().map_or(0, |data| data.address);
        let mut eh = EhFrame::new(bytes(&sections.eh), LittleEndian);
        eh.set_address_size(ADDRESS_SIZE);
        eh.set_vendor(vendor);
        let mut debug = DebugFrame::new(bytes(&sections.debug), LittleEndian);
        debug.set_address_size(ADDRESS_SIZE);
        debug.set_vendor(vendor);
        Self {
            eh: Part::new(eh, BaseAddresses::default().set_eh_frame(address), machine, limits),
            debug: Part::new(debug, BaseAddresses::default(), machine, limits),
            context: UnwindContext::new(),
        }
    }

    /// All entries by ascending address, one for each.
    pub(super) fn entries(&mut self) -> Result<Vec<Entry>, Error> {
        let mut entries = self.eh.entries(Place::Eh, Vec::new())?;
        match self.debug.entries(Place::Debug, entries.clone()) {
            Ok(both) => entries = both,
            // It may be compressed, and is not needed in programs with exceptions.
            Err(Error::Frames(_)) if !entries.is_empty() => {}
            Err(error) => return Err(error),
        }
        entries.sort_unstable_by_key(|entry| {
            (entry.begin, entry.place, std::cmp::Reverse(entry.end), entry.offset)
        });
        entries.dedup_by_key(|entry| entry.begin);
        Ok(entries)
    }

    /// Emits the rules of an entry's code up to `end`.
    pub(super) fn rules(&mut self, entry: Entry, end: u64, emit: &mut Emit<'_>) -> Result<(), Error> {
        match entry.place {
            Place::Eh => self.eh.rules(&mut self.context, entry, end, emit),
            Place::Debug => self.debug.rules(&mut self.context, entry, end, emit),
        }
    }
}

/// One section.
struct Part<'d, S: UnwindSection<Bytes<'d>>> {
    section: S,
    bases: BaseAddresses,
    cies: FxHashMap<usize, CommonInformationEntry<Bytes<'d>>>,
    machine: Machine,
    limits: Limits,
}

impl<'d, S: UnwindSection<Bytes<'d>>> Part<'d, S> {
    fn new(section: S, bases: BaseAddresses, machine: Machine, limits: Limits) -> Self {
        Self { section, bases, cies: FxHashMap::default(), machine, limits }
    }

    /// Appends the section's entries.
    fn entries(&mut self, place: Place, mut found: Vec<Entry>) -> Result<Vec<Entry>, Error> {
        let (section, bases) = (self.section.clone(), self.bases.clone());
        let mut entries = section.entries(&bases);
        while let Some(entry) = entries.next()? {
            let CieOrFde::Fde(partial) = entry else { continue };
            if found.len() as u64 >= MAX_ENTRIES {
                let value = found.len() as u64 + 1;
                return Err(Error::Limit { what: "frame descriptions", value, limit: MAX_ENTRIES });
            }
            if found.len().is_multiple_of(CLOCK_INTERVAL) {
                self.limits.check()?;
            }
            check_length("bytes of a frame description", partial.entry_len(), MAX_FDE)?;
            let cie = self.cie(partial.cie_offset())?;
            let fde = partial.parse(|_, _, _| Ok(cie.clone()))?;
            let (begin, end) = (fde.initial_address(), fde.end_address());
            if begin < end {
                found.push(Entry { begin, end, place, offset: fde.offset() });
            }
        }
        Ok(found)
    }

    fn cie(&mut self, offset: S::Offset) -> Result<CommonInformationEntry<Bytes<'d>>, Error> {
        let key = UnwindOffset::into(offset);
        if let Some(cie) = self.cies.get(&key) {
            return Ok(cie.clone());
        }
        self.limits.check()?;
        let cie = self.section.cie_from_offset(&self.bases, offset)?;
        check_length("bytes of a frame description's common part", cie.entry_len(), MAX_CIE)?;
        if self.cies.len() >= MAX_CIES {
            self.cies.clear();
        }
        self.cies.insert(key, cie.clone());
        Ok(cie)
    }

    fn rules(
        &mut self,
        context: &mut UnwindContext<usize>,
        entry: Entry,
        end: u64,
        emit: &mut Emit<'_>,
    ) -> Result<(), Error> {
        let bases = self.bases.clone();
        let partial = self.section.partial_fde_from_offset(&bases, S::Offset::from(entry.offset))?;
        let cie = self.cie(partial.cie_offset())?;
        let fde = partial.parse(|_, _, _| Ok(cie.clone()))?;
        let mut at = entry.begin;
        if let Ok(mut rows) = fde.rows(&self.section, &bases, context) {
            while at < end
                && let Ok(Some(row)) = rows.next_row()
            {
                let row_end = row.end_address().min(end);
                if at < row_end {
                    let rule = Frame { section: &self.section, cie: fde.cie(), row }.rule(self.machine);
                    emit(at, row_end, rule)?;
                    at = row_end;
                }
            }
        }
        // What an error left without a rule.
        if at < end { emit(at, end, Rule::UNSUPPORTED) } else { Ok(()) }
    }
}

fn check_length(what: &'static str, len: usize, limit: u64) -> Result<(), Error> {
    let value = len as u64;
    if value > limit { Err(Error::Limit { what, value, limit }) } else { Ok(()) }
}
