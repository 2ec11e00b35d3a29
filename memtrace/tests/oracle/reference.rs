//! Another unwinder (framehop) over a copy of the stack: what a walk should have come to.

use std::collections::HashSet;
use std::fs;
use std::ops::Range;

use framehop::x86_64::{CacheX86_64, UnwindRegsX86_64, UnwinderX86_64};
use framehop::{ExplicitModuleSectionInfo, FrameAddress, Module, Unwinder as _};
use object::read::elf::{ElfFile64, ProgramHeader as _};
use object::{Endianness, Object as _, ObjectSection as _};

/// Return addresses that a return probe replaced are that of a trampoline, which is at the start of a page of its own.
const PAGE: u64 = 4096;

/// Most frames that a walk takes.
const MAX_FRAMES: usize = memtrace_common::MAX_FRAMES;

/// The memory and registers of a walk.
pub(crate) struct Start<'a> {
    /// Where the return address lay.
    pub(crate) sp: u64,
    /// The frame pointer.
    pub(crate) fp: u64,
    /// Address of the first byte of `stack`.
    pub(crate) base: u64,
    /// The stack.
    pub(crate) stack: &'a [u8],
    /// The walk's own frames: taken where the stack holds a trampoline instead.
    pub(crate) pcs: &'a [u64],
}

impl Start<'_> {
    fn word(&self, address: u64) -> Result<u64, ()> {
        let at = usize::try_from(address.checked_sub(self.base).ok_or(())?).map_err(drop)?;
        let bytes = self.stack.get(at..at + 8).ok_or(())?;
        bytes.try_into().map(u64::from_ne_bytes).map_err(drop)
    }
}

/// Frames, and why there are no more.
pub(crate) struct Frames {
    pub(crate) pcs: Vec<u64>,
    /// `None` at the first frame of the thread.
    pub(crate) error: Option<String>,
}

/// The modules of a process.
#[derive(Default)]
pub(crate) struct Reference {
    unwinder: UnwinderX86_64<Vec<u8>>,
    cache: CacheX86_64,
    known: HashSet<(u64, String)>,
    ranges: Vec<Range<u64>>,
    /// Addresses in none of them, that were looked for.
    elsewhere: HashSet<u64>,
}

impl Reference {
    /// Reads what is mapped now, besides what was.
    pub(crate) fn refresh(&mut self, pid: u32) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        for line in maps.lines() {
            let mut words = line.split_whitespace();
            let (Some(range), Some(permissions), Some(offset)) = (words.next(), words.next(), words.next())
            else {
                continue;
            };
            let name = words.nth(2).unwrap_or_default().to_owned();
            let Some((start, end)) = range.split_once('-') else { continue };
            let [start, end, offset] =
                [start, end, offset].map(|word| u64::from_str_radix(word, 16).unwrap());
            if permissions.contains('x') && name.starts_with('/') && self.known.insert((start, name.clone()))
            {
                self.add(pid, start..end, offset, name);
            }
        }
    }

    fn add(&mut self, pid: u32, range: Range<u64>, offset: u64, name: String) {
        let path = format!("/proc/{pid}/map_files/{:x}-{:x}", range.start, range.end);
        let Ok(bytes) = fs::read(path) else { return };
        let Ok(file) = ElfFile64::<Endianness>::parse(&*bytes) else { return };
        // The executable segment's bias, not that of any segment that has this file offset.
        let endian = file.endian();
        let segment = file.elf_program_headers().iter().find(|header| {
            let start = header.p_offset(endian) & !4095;
            let end = header.p_offset(endian) + header.p_filesz(endian);
            header.p_type(endian) == object::elf::PT_LOAD
                && header.p_flags(endian) & object::elf::PF_X != 0
                && (start..end).contains(&offset)
        });
        let Some(segment) = segment else { return };
        let vaddr = segment.p_vaddr(endian).wrapping_sub(segment.p_offset(endian)).wrapping_add(offset);
        let bias = range.start.wrapping_sub(vaddr);
        let address = |name| {
            let section = file.section_by_name(name)?;
            Some(section.address()..section.address() + section.size())
        };
        let data = |name| Some(file.section_by_name(name)?.data().ok()?.to_vec());
        let sections = ExplicitModuleSectionInfo {
            base_svma: 0,
            text_svma: address(".text"),
            text: data(".text"),
            got_svma: address(".got"),
            eh_frame_svma: address(".eh_frame"),
            eh_frame: data(".eh_frame"),
            eh_frame_hdr_svma: address(".eh_frame_hdr"),
            eh_frame_hdr: data(".eh_frame_hdr"),
            debug_frame: data(".debug_frame"),
            ..ExplicitModuleSectionInfo::default()
        };
        self.unwinder.add_module(Module::new(name, range.clone(), bias, sections));
        self.ranges.push(range);
    }

    /// Reads what is mapped now if one of the addresses is seen for the first time and in no known file.
    pub(crate) fn learn(&mut self, pid: u32, pcs: &[u64]) {
        let unknown: Vec<u64> = pcs.iter().copied().filter(|&pc| !self.knows(pc)).collect();
        if unknown.iter().any(|pc| !self.elsewhere.contains(pc)) {
            self.refresh(pid);
            self.elsewhere.extend(unknown);
        }
    }

    /// Whether code of a file is mapped there.
    fn knows(&self, pc: u64) -> bool {
        self.ranges.iter().any(|range| range.contains(&(pc.wrapping_sub(1))))
    }

    /// Unwinds from the caller of the function that was entered.
    pub(crate) fn walk(&mut self, start: &Start<'_>) -> Frames {
        let mut frames = Frames { pcs: Vec::new(), error: None };
        let Ok(mut pc) = start.word(start.sp) else {
            frames.error = Some("no stack".to_owned());
            return frames;
        };
        let mut registers = UnwindRegsX86_64::new(pc, start.sp + 8, start.fp);
        let mut read = |address| start.word(address);
        while frames.pcs.len() < MAX_FRAMES {
            if pc.is_multiple_of(PAGE) && !self.knows(pc) {
                pc = start.pcs.get(frames.pcs.len()).copied().unwrap_or(pc);
            }
            frames.pcs.push(pc);
            let address = FrameAddress::from_return_address(pc);
            let Some(address) = address else { break };
            match self.unwinder.unwind_frame(address, &mut registers, &mut self.cache, &mut read) {
                Ok(Some(next)) => pc = next,
                Ok(None) => break,
                Err(error) => {
                    frames.error = Some(error.to_string());
                    break;
                }
            }
        }
        frames
    }
}
