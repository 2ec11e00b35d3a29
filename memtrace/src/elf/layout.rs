//! Where writable and thread-local data is in memory.

use std::ops::Range;

use object::elf;

use super::source::until_nul;
use super::{Error, Image, Machine, Part, Section};

/// Thread-local data of one file. A program that has more keeps it elsewhere.
const MAX_THREAD_LOCAL: u64 = 1 << 30;
/// What is in front of a program's thread-local data on aarch64.
const AARCH64_HEAD: u64 = 16;

impl Image {
    /// ELF virtual addresses of the writable segments, with the zeros behind the file's bytes (`.bss`). At most 1,024.
    pub fn writable(&self) -> impl Iterator<Item = Range<u64>> {
        self.writable_parts().filter_map(|part| part.memory()).filter(|range| !range.is_empty())
    }

    /// The name of the section that an ELF virtual address of writable data is in, and the address of its end. Without section
    /// headers that is `.data` for what the file has bytes for and `.bss` for the rest; `None` outside of all.
    ///
    /// # Errors
    /// The names of sections are over their limit (1 MiB) or outside the file.
    pub fn data_section(&self, address: u64) -> Result<Option<(String, u64)>, Error> {
        let holds = |section: &&Section| {
            // `.tbss` has addresses of what follows: it is loaded for each thread, elsewhere.
            let is_loaded = section.flags & u64::from(elf::SHF_ALLOC) != 0
                && section.flags & u64::from(elf::SHF_TLS) == 0;
            is_loaded && address.checked_sub(section.address).is_some_and(|into| into < section.size)
        };
        if let Some(section) = self.sections.iter().find(holds) {
            let Some(names) = self.section_names()? else { return Ok(None) };
            let name = usize::try_from(section.name).ok().and_then(|at| names.bytes().get(at..));
            let end = section.address.saturating_add(section.size);
            let named = |name| (String::from_utf8_lossy(name).into_owned(), end);
            return Ok(name.and_then(until_nul).map(named));
        }
        let holds = |part: &&Part| part.memory().is_some_and(|range| range.contains(&address));
        let part = self.writable_parts().find(holds);
        let is_in_file = |part: &Part| address.wrapping_sub(part.address) < part.size;
        Ok(part.map(|part| {
            let in_file = part.address.saturating_add(part.size);
            let end = part.memory().map_or(in_file, |range| range.end);
            let (name, end) = if is_in_file(part) { (".data", in_file) } else { (".bss", end) };
            (name.to_owned(), end)
        }))
    }

    /// Where a thread with this thread pointer has the thread-local data of the file, if that is the program; linkers
    /// compute these addresses themselves, and so can we. Libraries are where the loader put them.
    #[must_use]
    pub fn program_thread_locals(&self, pointer: u64) -> Option<Range<u64>> {
        let (part, mask) = self.thread_local_part()?;
        let size = part.memory_size;
        let start = match self.machine {
            Machine::X86_64 => {
                let padding = part.address.wrapping_add(size).wrapping_neg() & mask;
                pointer.checked_sub(size)?.checked_sub(padding)?
            }
            Machine::Aarch64 => {
                let padding = part.address.wrapping_sub(AARCH64_HEAD) & mask;
                pointer.checked_add(AARCH64_HEAD)?.checked_add(padding)?
            }
        };
        Some(start..start.checked_add(size)?)
    }

    /// The most bytes that a thread has for thread-local data of the file; 0 if there is none, or an impossible amount.
    #[must_use]
    pub fn thread_local_bytes(&self) -> u64 {
        self.thread_local_part().map_or(0, |(part, mask)| part.memory_size.saturating_add(mask))
    }

    fn writable_parts(&self) -> impl Iterator<Item = &Part> {
        let is_writable = |part: &&Part| part.kind == elf::PT_LOAD && part.flags & elf::PF_W != 0;
        self.parts.iter().filter(is_writable)
    }

    /// The segment of thread-local data, and a mask for its alignment.
    fn thread_local_part(&self) -> Option<(&Part, u64)> {
        let part = self.parts.iter().find(|part| part.kind == elf::PT_TLS)?;
        let align = part.align.max(1);
        let possible = align.is_power_of_two() && part.memory_size.max(align) <= MAX_THREAD_LOCAL;
        possible.then_some((part, align.wrapping_sub(1)))
    }
}

impl Part {
    /// Its ELF virtual addresses; `None` if they overflow.
    fn memory(&self) -> Option<Range<u64>> {
        Some(self.address..self.address.checked_add(self.memory_size)?)
    }
}
