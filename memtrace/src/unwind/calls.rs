//! Finds code that a return address, or an interrupted system call's, can point into.

use super::{Error, Limits};
use crate::elf::{self, Image, Machine};

/// Bytes of code read at a time.
const WINDOW: u64 = 256 << 10;
/// The overlap of pieces of a range, so that a call across their border is seen: more than the bytes that
/// are examined together.
const OVERLAP: u64 = 8;

/// A file's code, read on demand.
pub(super) struct Code<'i> {
    image: &'i Image,
    limits: Limits,
    start: u64,
    bytes: Vec<u8>,
}

impl<'i> Code<'i> {
    pub(super) fn new(image: &'i Image, limits: Limits) -> Self {
        Self { image, limits, start: 0, bytes: Vec::new() }
    }

    /// Whether the range can hold a call or system call, from its first byte to its last.
    pub(super) fn has_call(&mut self, mut begin: u64, end: u64) -> Result<bool, Error> {
        let machine = self.image.machine();
        loop {
            let wanted = end.saturating_sub(begin).min(WINDOW);
            let bytes = self.bytes(begin, wanted)?;
            let found = match machine {
                Machine::X86_64 => has_call_x86_64(bytes),
                Machine::Aarch64 => has_call_aarch64(begin, bytes),
            };
            if found {
                return Ok(true);
            }
            if wanted < WINDOW || (bytes.len() as u64) < wanted {
                return Ok(false);
            }
            begin = begin.saturating_add(WINDOW - OVERLAP);
        }
    }

    /// Whether a function replaces the stack before anything else, as glibc's `__start_context` does: it is never
    /// called, `makecontext` writes its address in place of a return address.
    pub(super) fn switches_stack(&mut self, address: u64) -> Result<bool, Error> {
        const ENDBR64: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
        const MOV_RBX_TO_RSP: [u8; 3] = [0x48, 0x89, 0xdc];
        if self.image.machine() != Machine::X86_64 {
            return Ok(false);
        }
        let code = self.bytes(address, (ENDBR64.len() + MOV_RBX_TO_RSP.len()) as u64)?;
        Ok(code.strip_prefix(&ENDBR64).unwrap_or(code).starts_with(&MOV_RBX_TO_RSP))
    }

    /// The bytes at an address, fewer than requested at the end of the file's code; at most [`WINDOW`].
    fn bytes(&mut self, address: u64, len: u64) -> Result<&[u8], Error> {
        let held = self.start.saturating_add(self.bytes.len() as u64);
        if address < self.start || address.saturating_add(len) > held {
            self.limits.check()?;
            self.bytes = match self.image.code(address, WINDOW) {
                Ok(bytes) => bytes,
                // Memory beyond what the file holds is zero: no call.
                Err(elf::Error::NotCode { .. }) => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            self.start = address;
        }
        let bytes =
            usize::try_from(address.wrapping_sub(self.start)).ok().and_then(|from| self.bytes.get(from..));
        let bytes = bytes.unwrap_or_default();
        Ok(usize::try_from(len).ok().and_then(|len| bytes.get(..len)).unwrap_or(bytes))
    }
}

/// Instructions begin at any byte: `call rel32`, `call r/m64` and `syscall` wherever they can be read.
fn has_call_x86_64(code: &[u8]) -> bool {
    code.iter().enumerate().any(|(at, byte)| match byte {
        0xe8 => code.len() - at >= 5,
        0xff => code.get(at + 1).is_some_and(|modrm| modrm >> 3 & 7 == 2),
        0x0f => code.get(at + 1) == Some(&0x05),
        _ => false,
    })
}

/// BL, BLR, BLRAA and its like, SVC.
fn has_call_aarch64(address: u64, code: &[u8]) -> bool {
    const CALLS: [(u32, u32); 4] = [
        (0xfc00_0000, 0x9400_0000), // BL
        (0xffff_fc1f, 0xd63f_0000), // BLR
        (0xfeff_f800, 0xd63f_0800), // BLRAA, BLRAB, BLRAAZ, BLRABZ
        (0xffe0_001f, 0xd400_0001), // SVC
    ];
    let skip = usize::try_from(address.wrapping_neg() % 4).unwrap_or_default();
    let (words, _) = code.get(skip..).unwrap_or_default().as_chunks::<4>();
    words
        .iter()
        .map(|word| u32::from_le_bytes(*word))
        .any(|word| CALLS.iter().any(|(mask, value)| word & mask == *value))
}
