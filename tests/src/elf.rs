//! Programs of a few bytes, for what no compiler here makes.

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
