//! Programs of a few bytes, for what no compiler here makes.

use std::{fs, path::Path};

/// A static 32-bit x86 program that does nothing but wait for a signal.
#[must_use]
pub fn spinning_elf32() -> Vec<u8> {
    // mov eax, 29 (pause); int 0x80; jmp back
    let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let (header, entry) = (52 + 32, 0x0804_8000_u32);
    let mut elf = identification(1);
    for half in [2u16, 3] {
        elf.extend(half.to_le_bytes()); // executable, 386
    }
    for word in [1, entry + header, 52, 0, 0] {
        elf.extend(word.to_le_bytes()); // version, entry, program headers, section headers, flags
    }
    for half in [52u16, 32, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    let length = header + code.len() as u32;
    for word in [1, 0, entry, entry, length, length, 5, 0x1000] {
        elf.extend(word.to_le_bytes()); // one segment, all of the file, r-x
    }
    elf.extend(code);
    elf
}

/// A static 64-bit x86 program without symbols that does nothing but wait for a signal.
#[must_use]
pub fn spinning_elf64() -> Vec<u8> {
    // mov eax, 34 (pause); syscall; jmp back
    let code = [0xb8, 34, 0, 0, 0, 0x0f, 0x05, 0xeb, 0xf7];
    let (header, entry) = (64 + 56, 0x40_0000_u64);
    let mut elf = identification(2);
    for half in [2u16, 62] {
        elf.extend(half.to_le_bytes()); // executable, x86-64
    }
    elf.extend(1u32.to_le_bytes());
    for word in [entry + header, 64, 0] {
        elf.extend(word.to_le_bytes()); // entry, program headers, section headers
    }
    elf.extend(0u32.to_le_bytes());
    for half in [64u16, 56, 1, 0, 0, 0] {
        elf.extend(half.to_le_bytes());
    }
    for word in [1u32, 5] {
        elf.extend(word.to_le_bytes()); // one segment, r-x
    }
    let length = header + code.len() as u64;
    for word in [0, entry, entry, length, length, 0x1000] {
        elf.extend(word.to_le_bytes()); // all of the file
    }
    elf.extend(code);
    elf
}

fn identification(class: u8) -> Vec<u8> {
    let mut bytes = vec![0x7f, b'E', b'L', b'F', class, 1, 1];
    bytes.resize(16, 0);
    bytes
}

/// A section header of a 64-bit file in memory.
struct Section {
    /// Where the header is.
    header: usize,
    /// Where the contents are, and their bytes.
    offset: usize,
    size: usize,
}

fn number(bytes: &[u8], at: usize, size: usize) -> usize {
    bytes[at..at + size].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

fn find_section(bytes: &[u8], name: &str) -> Section {
    let header = |index| {
        let header = number(bytes, 40, 8) + index * 64;
        Section { header, offset: number(bytes, header + 24, 8), size: number(bytes, header + 32, 8) }
    };
    let names = header(number(bytes, 62, 2));
    (0..number(bytes, 60, 2))
        .map(header)
        .find(|section| {
            let found = &bytes[names.offset + number(bytes, section.header, 4)..];
            found.starts_with(name.as_bytes()) && found.get(name.len()) == Some(&0)
        })
        .unwrap_or_else(|| panic!("no section {name}"))
}

/// Changes the contents of a section of a 64-bit file.
///
/// # Panics
/// If there is no such file or section.
pub fn damage_section(file: &Path, name: &str, damage: impl Fn(&mut [u8])) {
    let mut bytes = fs::read(file).expect("an ELF file");
    let Section { offset, size, .. } = find_section(&bytes, name);
    damage(&mut bytes[offset..offset + size]);
    fs::write(file, bytes).expect("the file can be written");
}

/// Marks a section as compressed.
///
/// # Panics
/// If there is no such file or section.
pub fn mark_compressed(file: &Path, name: &str) {
    let mut bytes = fs::read(file).expect("an ELF file");
    let flags = find_section(&bytes, name).header + 8;
    bytes[flags + 1] |= 0x08; // SHF_COMPRESSED
    fs::write(file, bytes).expect("the file can be written");
}

/// A compressed section that says it inflates to `size` bytes: zeros, as many as 13 bits a 258 of them make of `length`
/// bytes.
#[must_use]
pub fn compressed_zeros(size: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 64);
    bytes.extend([1u32, 0].iter().flat_map(|word| word.to_le_bytes())); // ELFCOMPRESS_ZLIB
    bytes.extend([size, 1].iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([0x78, 0x9c]);
    // One block with fixed codes: a zero, and then copies of 258 bytes from one byte before.
    let mut bits = vec![1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 0];
    let copy = [1, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0];
    while bits.len() % 8 != 0 || bits.len() < 11 + 8 * copy.len() {
        bits.extend(copy);
    }
    let pack = |bits: &[u8]| -> Vec<u8> {
        bits.chunks(8).map(|byte| byte.iter().rev().fold(0, |value, bit| value << 1 | bit)).collect()
    };
    bytes.extend(pack(&bits));
    // Eight copies are thirteen bytes.
    let turn = pack(&copy.repeat(8));
    while bytes.len() < length {
        bytes.extend(&turn);
    }
    bytes
}
