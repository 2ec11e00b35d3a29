//! What the tests of tables share: small files with handmade frame descriptions.

mod aarch64;
mod assembled;
mod damaged;
mod limits;
mod oracle;

mod x86_64;

use std::time::Duration;

use memtrace_common::Row;
use object::elf;

use super::{Error, Limits, Table};
use crate::elf::Image;
use crate::elf::fixture::file_of;

/// Address of the code in a [`Sample`]; its offset in the file differs.
const CODE: u64 = 0x40_2000;
const CODE_OFFSET: u64 = 0x1000;
/// Address of `.eh_frame_hdr`, which `.eh_frame` follows.
const FRAMES: u64 = 0x10_0000;

/// Call frame instructions.
mod cfa {
    pub(super) const REMEMBER_STATE: u8 = 0x0a;
    pub(super) const RESTORE_STATE: u8 = 0x0b;
    pub(super) const UNDEFINED: u8 = 0x07;
    pub(super) const DEF_CFA: u8 = 0x0c;
    pub(super) const DEF_CFA_REGISTER: u8 = 0x0d;
    pub(super) const DEF_CFA_OFFSET: u8 = 0x0e;
    pub(super) const DEF_CFA_EXPRESSION: u8 = 0x0f;
    pub(super) const EXPRESSION: u8 = 0x10;
    pub(super) const NEGATE_RA_STATE: u8 = 0x2d;
    pub(super) const fn advance(by: u8) -> u8 {
        0x40 | by
    }
    pub(super) const fn offset(register: u8) -> u8 {
        0x80 | register
    }
}

/// An ELF file: code, and CIEs and FDEs that describe it.
#[derive(Clone)]
struct Sample {
    machine: u16,
    code: Vec<u8>,
    eh_frame: Vec<u8>,
    debug_frame: Vec<u8>,
    build_id: Vec<u8>,
    /// Without section headers, so that `PT_GNU_EH_FRAME` is all there is.
    stripped: bool,
    /// Added to the segment's size in memory.
    more_memory: u64,
}

impl Sample {
    fn x86_64(code: &[u8]) -> Self {
        Self {
            machine: elf::EM_X86_64,
            code: code.to_vec(),
            eh_frame: Vec::new(),
            debug_frame: Vec::new(),
            build_id: Vec::new(),
            stripped: false,
            more_memory: 0,
        }
    }

    /// Appends a CIE with absolute addresses and returns its offset.
    fn cie(&mut self, augmentation: &str, return_register: u8, instructions: &[u8]) -> u32 {
        let at = self.eh_frame.len() as u32;
        let mut entry = vec![0, 0, 0, 0, 1];
        entry.extend_from_slice(augmentation.as_bytes());
        entry.extend_from_slice(&[0, 1, 0x78, return_register, 1, 0]);
        entry.extend_from_slice(instructions);
        self.append(entry);
        at
    }

    /// The usual CIE of x86_64.
    fn usual_cie(&mut self) -> u32 {
        self.cie("zR", 16, &[cfa::DEF_CFA, 7, 8, cfa::offset(16), 1])
    }

    /// Appends an FDE for code from `begin` (counted from the code's address).
    fn fde(&mut self, cie: u32, begin: u64, len: u64, instructions: &[u8]) {
        let mut entry = (self.eh_frame.len() as u32 + 4 - cie).to_le_bytes().to_vec();
        entry.extend_from_slice(&(CODE + begin).to_le_bytes());
        entry.extend_from_slice(&len.to_le_bytes());
        entry.push(0);
        entry.extend_from_slice(instructions);
        self.append(entry);
    }

    fn append(&mut self, mut entry: Vec<u8>) {
        entry.resize(entry.len().next_multiple_of(8) + 4, 0);
        self.eh_frame.extend_from_slice(&(entry.len() as u32).to_le_bytes());
        self.eh_frame.extend_from_slice(&entry);
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; CODE_OFFSET as usize];
        file.extend_from_slice(&self.code);
        file.resize(file.len().next_multiple_of(16), 0);
        let frames_offset = file.len() as u64;
        // Version 1, pointer relative to its own address, no search table.
        file.extend_from_slice(&[1, 0x1b, 0xff, 0xff]);
        file.extend_from_slice(&4u32.to_le_bytes());
        file.extend_from_slice(&self.eh_frame);
        file.extend_from_slice(&[0; 4]);
        let frames_size = file.len() as u64 - frames_offset;
        let debug_offset = file.len() as u64;
        file.extend_from_slice(&self.debug_frame);
        let note_offset = file.len().next_multiple_of(4);
        file.resize(note_offset, 0);
        let mut note =
            [4u32, self.build_id.len() as u32, elf::NT_GNU_BUILD_ID].map(u32::to_le_bytes).concat();
        note.extend_from_slice(b"GNU\0");
        note.extend_from_slice(&self.build_id);
        file.extend_from_slice(&note);
        let code_size = self.code.len() as u64;
        let programs = [
            (elf::PT_LOAD, elf::PF_R, frames_offset, FRAMES, frames_size, frames_size),
            (elf::PT_LOAD, elf::PF_R | elf::PF_X, CODE_OFFSET, CODE, code_size, code_size + self.more_memory),
            (elf::PT_GNU_EH_FRAME, elf::PF_R, frames_offset, FRAMES, 8, 8),
            (elf::PT_NOTE, elf::PF_R, note_offset as u64, 0, note.len() as u64, 0),
        ];
        let names = b"\0.eh_frame\0.debug_frame\0.names\0";
        let names_offset = file.len() as u64;
        file.extend_from_slice(names);
        let sections = [
            (0, 0, 0, 0, 0),
            (1, elf::SHT_PROGBITS, FRAMES + 8, frames_offset + 8, frames_size - 8),
            (11, elf::SHT_PROGBITS, 0, debug_offset, self.debug_frame.len() as u64),
            (24, elf::SHT_STRTAB, 0, names_offset, names.len() as u64),
        ];
        // An empty section of the one kind is as good as none.
        let sections = if self.stripped { &sections[..0] } else { &sections[..] };
        let sections_at = file.len() as u64;
        for (name, kind, address, offset, size) in sections {
            file.extend_from_slice(&[*name, *kind].map(u32::to_le_bytes).concat());
            file.extend_from_slice(&[0, *address, *offset, *size, 0, 8, 0].map(u64::to_le_bytes).concat());
        }
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        head.extend_from_slice(&[elf::ET_DYN, self.machine, 1, 0].map(u16::to_le_bytes).concat());
        head.extend_from_slice(&[0, 64, sections_at].map(u64::to_le_bytes).concat());
        let counts = [0, 0, 64, 56, programs.len() as u16, 64, sections.len() as u16, 3];
        head.extend_from_slice(&counts.map(u16::to_le_bytes).concat());
        for (kind, flags, offset, address, size, memory) in programs {
            head.extend_from_slice(&[kind, flags].map(u32::to_le_bytes).concat());
            head.extend_from_slice(
                &[offset, address, address, size, memory, 8].map(u64::to_le_bytes).concat(),
            );
        }
        file[..head.len()].copy_from_slice(&head);
        file
    }

    fn image(&self) -> Image {
        Image::from_file(file_of(&self.bytes())).unwrap()
    }

    fn table(&self) -> Table {
        Table::build(&self.image(), generous()).unwrap()
    }

    fn error(&self) -> Error {
        Table::build(&self.image(), generous()).unwrap_err()
    }
}

/// More time than any test needs.
fn generous() -> Limits {
    Limits::within(Duration::from_secs(3600))
}

fn row(pc: u32, kind: u8, cfa: u16, fp: u8) -> Row {
    Row { pc, cfa, kind, fp }
}

/// `call` to the next instruction.
const CALL: [u8; 5] = [0xe8, 0, 0, 0, 0];
