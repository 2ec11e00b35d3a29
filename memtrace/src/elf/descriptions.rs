//! Functions in a file's call frame information: their bounds, and whether exceptions pass through them.
//! Unlike symbols, it also describes functions that are local to a stripped file.

use std::ops::Range;

use gimli::{BaseAddresses, EhFrame, EhFrameHdr, EndianSlice, LittleEndian, ParsedEhFrameHdr, UnwindSection};

use super::{Data, Error, Image};

/// The largest section read, in bytes: that of a 200 MB compiler has 8 MB.
const MAX_SECTION: u64 = 128 << 20;
const ADDRESS_SIZE: u8 = 8;

/// The frame descriptions of a file, ready to be searched.
pub struct Descriptions {
    header: Data,
    frames: Data,
}

/// What a frame description says about a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// Its code, by ELF virtual address. A part that a compiler split off (`.cold`) is a function of its own here.
    pub range: Range<u64>,
    /// Whether it has a personality routine: an exception that passes runs code in it, or ends the process.
    pub has_personality: bool,
    /// Whether it has a table of handlers and cleanups (LSDA).
    pub has_handlers: bool,
}

impl Descriptions {
    /// Reads `.eh_frame_hdr` and `.eh_frame`; `None` if the file has no search table.
    ///
    /// # Errors
    /// A section is over 128 MiB or outside the file.
    pub fn read(image: &Image) -> Result<Option<Self>, Error> {
        let Some(header) = image.section_data(".eh_frame_hdr", MAX_SECTION)? else { return Ok(None) };
        let Some(frames) = image.section_data(".eh_frame", MAX_SECTION)? else { return Ok(None) };
        Ok(Some(Self { header, frames }))
    }

    /// The function that contains an ELF virtual address; `None` if none is described, or its description is damaged.
    #[must_use]
    pub fn at(&self, address: u64) -> Option<Description> {
        let bases =
            BaseAddresses::default().set_eh_frame_hdr(self.header.address).set_eh_frame(self.frames.address);
        let header: ParsedEhFrameHdr<EndianSlice<'_, LittleEndian>> =
            EhFrameHdr::new(self.header.bytes(), LittleEndian).parse(&bases, ADDRESS_SIZE).ok()?;
        let mut frames = EhFrame::new(self.frames.bytes(), LittleEndian);
        frames.set_address_size(ADDRESS_SIZE);
        let fde = header
            .table()?
            .fde_for_address(&frames, &bases, address, |section, bases, offset| {
                section.cie_from_offset(bases, offset)
            })
            .ok()?;
        let range = fde.initial_address()..fde.end_address();
        range.contains(&address).then(|| Description {
            range,
            has_personality: fde.personality().is_some(),
            has_handlers: fde.lsda().is_some(),
        })
    }
}
