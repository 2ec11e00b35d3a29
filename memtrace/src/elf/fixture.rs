//! Small ELF files for tests, sound and damaged.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::elf;

use super::Image;

/// Where the code is in the file. Its address differs, as in files that lld links.
pub(crate) const CODE_OFFSET: u64 = 0x1000;
/// The code's ELF virtual address.
pub(crate) const CODE_ADDRESS: u64 = 0x3000;

/// A symbol: name, address, size, `st_info`, section.
pub(crate) type Sym = (&'static str, u64, u64, u8, u16);

/// A defined global function.
pub(crate) fn function(name: &'static str, address: u64, size: u64) -> Sym {
    (name, address, size, elf::STB_GLOBAL << 4 | elf::STT_FUNC, 1)
}

/// What goes into the file.
#[derive(Clone)]
pub(crate) struct Fixture {
    pub(crate) machine: u16,
    pub(crate) kind: u16,
    pub(crate) dynsym: Vec<Sym>,
    pub(crate) symtab: Vec<Sym>,
    pub(crate) soname: Option<&'static str>,
    pub(crate) interpreter: Option<&'static str>,
    pub(crate) debuglink: Option<(&'static str, u32)>,
    pub(crate) build_id: Vec<u8>,
    pub(crate) code: Vec<u8>,
    /// Writable segments: address, bytes in the file, bytes in memory.
    pub(crate) data: Vec<(u64, u64, u64)>,
    /// Thread-local data: address, bytes in memory, alignment.
    pub(crate) thread_local: Option<(u64, u64, u64)>,
}

impl Default for Fixture {
    fn default() -> Self {
        Self {
            machine: elf::EM_X86_64,
            kind: elf::ET_DYN,
            dynsym: Vec::new(),
            symtab: Vec::new(),
            soname: None,
            interpreter: None,
            debuglink: None,
            build_id: Vec::new(),
            code: vec![0xc3; 0x100],
            data: Vec::new(),
            thread_local: None,
        }
    }
}

/// Appends little-endian fields of several widths.
macro_rules! fields {
    ($out:expr, $($value:expr),+ $(,)?) => {{ $($out.extend_from_slice(&($value).to_le_bytes());)+ }};
}

/// A program header: type, flags, offset, address, bytes in the file and in memory, alignment.
type Program = (u32, u32, u64, u64, u64, u64, u64);

struct Header {
    name: &'static str,
    kind: u32,
    offset: u64,
    size: u64,
    link: u32,
}

impl Fixture {
    /// The file's bytes.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut file = vec![0; CODE_OFFSET as usize];
        file.extend_from_slice(&self.code);
        let mut sections = vec![Header { name: "", kind: 0, offset: 0, size: 0, link: 0 }];
        self.symbol_tables(&mut file, &mut sections);
        self.dynamic(&mut file, &mut sections);
        let mut programs = vec![
            program(elf::PT_LOAD, elf::PF_R, 0, 0, 0x3000),
            program(elf::PT_LOAD, elf::PF_R | elf::PF_X, CODE_OFFSET, CODE_ADDRESS, self.code.len() as u64),
        ];
        let writable = elf::PF_R | elf::PF_W;
        for &(address, size, memory) in &self.data {
            programs.push((elf::PT_LOAD, writable, 0, address, size, memory, 4));
        }
        if let Some((address, memory, align)) = self.thread_local {
            programs.push((elf::PT_TLS, elf::PF_R, 0, address, 0, memory, align));
        }
        if let Some(path) = self.interpreter {
            let size = path.len() as u64 + 1;
            let offset = append(&mut file, &[path.as_bytes(), b"\0"].concat());
            programs.push(program(elf::PT_INTERP, elf::PF_R, offset, 0, size));
        }
        if !self.build_id.is_empty() {
            let mut note = Vec::new();
            fields!(note, 4u32, self.build_id.len() as u32, elf::NT_GNU_BUILD_ID);
            note.extend_from_slice(b"GNU\0");
            note.extend_from_slice(&self.build_id);
            programs.push(program(elf::PT_NOTE, elf::PF_R, append(&mut file, &note), 0, note.len() as u64));
        }
        if let Some((name, crc)) = self.debuglink {
            let mut link = [name.as_bytes(), b"\0"].concat();
            link.resize(link.len().next_multiple_of(4), 0);
            fields!(link, crc);
            let offset = append(&mut file, &link);
            let (kind, size) = (elf::SHT_PROGBITS, link.len() as u64);
            sections.push(Header { name: ".gnu_debuglink", kind, offset, size, link: 0 });
        }
        self.headers(file, &programs, sections)
    }

    /// The file, opened.
    pub(crate) fn image(&self) -> Image {
        Image::from_file(file_of(&self.bytes())).unwrap()
    }

    fn symbol_tables(&self, file: &mut Vec<u8>, sections: &mut Vec<Header>) {
        for (name, kind, symbols) in
            [(".dynsym", elf::SHT_DYNSYM, &self.dynsym), (".symtab", elf::SHT_SYMTAB, &self.symtab)]
        {
            let (mut strings, mut table) = (vec![0u8], vec![0u8; 24]);
            for (name, address, size, info, section) in symbols {
                fields!(table, strings.len() as u32, *info, 0u8, *section, *address, *size);
                strings.extend_from_slice(&[name.as_bytes(), b"\0"].concat());
            }
            let link = sections.len() as u32 + 1;
            let offset = append(file, &table);
            sections.push(Header { name, kind, offset, size: table.len() as u64, link });
            let (offset, size) = (append(file, &strings), strings.len() as u64);
            sections.push(Header { name: ".strtab", kind: elf::SHT_STRTAB, offset, size, link: 0 });
        }
    }

    fn dynamic(&self, file: &mut Vec<u8>, sections: &mut Vec<Header>) {
        let Some(soname) = self.soname else { return };
        let mut table = Vec::new();
        fields!(table, elf::DT_SONAME, 1u64, elf::DT_NULL, 0u64);
        let strings = [b"\0", soname.as_bytes(), b"\0"].concat();
        let link = sections.len() as u32 + 1;
        let (offset, size) = (append(file, &table), table.len() as u64);
        sections.push(Header { name: ".dynamic", kind: elf::SHT_DYNAMIC, offset, size, link });
        let (offset, size) = (append(file, &strings), strings.len() as u64);
        sections.push(Header { name: ".dynstr", kind: elf::SHT_STRTAB, offset, size, link: 0 });
    }

    fn headers(&self, mut file: Vec<u8>, programs: &[Program], mut sections: Vec<Header>) -> Vec<u8> {
        let (mut names, mut offsets) = (Vec::new(), Vec::new());
        let last = Header { name: ".shstrtab", kind: elf::SHT_STRTAB, offset: 0, size: 0, link: 0 };
        sections.push(last);
        for section in &sections {
            offsets.push(names.len() as u32);
            names.extend_from_slice(&[section.name.as_bytes(), b"\0"].concat());
        }
        let offset = append(&mut file, &names);
        let last = sections.last_mut().unwrap();
        (last.offset, last.size) = (offset, names.len() as u64);
        let mut table = Vec::new();
        for (section, name) in sections.iter().zip(offsets) {
            fields!(table, name, section.kind, 0u64, 0u64, section.offset, section.size);
            fields!(table, section.link, 0u32, 4u64, 0u64);
        }
        let sections_at = append(&mut file, &table);
        let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        fields!(head, self.kind, self.machine, 1u32, 0u64, 64u64, sections_at, 0u32, 64u16, 56u16);
        fields!(head, programs.len() as u16, 64u16, sections.len() as u16, sections.len() as u16 - 1);
        for (kind, flags, offset, address, size, memory, align) in programs {
            fields!(head, *kind, *flags, *offset, *address, *address, *size, *memory, *align);
        }
        file[..head.len()].copy_from_slice(&head);
        file
    }
}

/// One with as many bytes in memory as in the file.
fn program(kind: u32, flags: u32, offset: u64, address: u64, size: u64) -> Program {
    (kind, flags, offset, address, size, size, 4)
}

fn append(file: &mut Vec<u8>, bytes: &[u8]) -> u64 {
    file.resize(file.len().next_multiple_of(8), 0);
    let offset = file.len() as u64;
    file.extend_from_slice(bytes);
    offset
}

/// An unnamed file with these bytes.
pub(crate) fn file_of(bytes: &[u8]) -> File {
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(bytes, 0).unwrap();
    file
}

/// Runs `check` on `rounds` damaged copies: truncated, or with up to eight bytes overwritten, most of them in
/// the headers and tables at both ends. The same ones in every run.
pub(crate) fn damaged(bytes: &[u8], rounds: u32, mut check: impl FnMut(File)) {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let file = file_of(bytes);
    for round in 0..rounds {
        file.set_len(bytes.len() as u64).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        if round % 8 == 0 {
            file.set_len(random(bytes.len()) as u64).unwrap();
        } else {
            for _ in 0..=random(8) {
                let at = match random(4) {
                    0 => random(bytes.len()),
                    1 => bytes.len() - 1 - random(bytes.len().min(0x1000)),
                    _ => random(bytes.len().min(0x400)),
                };
                let value = [0, 1, 0x7f, 0x80, 0xff, random(256) as u8][random(6)];
                file.write_all_at(&[value], at as u64).unwrap();
            }
        }
        check(file.try_clone().unwrap());
    }
}
