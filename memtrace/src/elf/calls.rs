//! Whether an address can be a return address.

use iced_x86::{Decoder, DecoderOptions, Mnemonic};

use super::{Image, Machine};

/// Bytes of the longest call instruction that compilers make: `call [base + index*scale + disp32]` with a prefix.
const LONGEST: u64 = 8;

impl Image {
    /// Whether the instruction before an ELF virtual address is a call. Code that cannot be read is assumed to
    /// have one.
    #[must_use]
    pub fn follows_call(&self, address: u64) -> bool {
        let Some(start) = address.checked_sub(LONGEST) else { return false };
        match self.code(start, LONGEST) {
            Ok(bytes) => ends_with_call(self.machine(), &bytes),
            Err(_) => true,
        }
    }
}

fn ends_with_call(machine: Machine, code: &[u8]) -> bool {
    match machine {
        Machine::X86_64 => {
            (2..=code.len()).filter_map(|length| code.get(code.len() - length..)).any(|bytes| {
                let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
                instruction.mnemonic() == Mnemonic::Call && instruction.len() == bytes.len()
            })
        }
        // BL, BLR and its authenticated forms (Arm ARM, C4.1.66).
        Machine::Aarch64 => code.last_chunk().is_some_and(|word| {
            let word = u32::from_le_bytes(*word);
            word >> 26 == 0b10_0101 || word & 0xfeff_f000 == 0xd63f_0000
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::{Machine, ends_with_call};

    #[test]
    fn calls_of_every_length_and_what_is_none() {
        let calls: [&[u8]; 6] = [
            &[0x90, 0x90, 0x90, 0xe8, 1, 2, 3, 4],
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0xd0],
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0x41, 0xff, 0xd4],
            &[0x90, 0x90, 0xff, 0x15, 1, 2, 3, 4],
            &[0x90, 0x90, 0x90, 0x90, 0x90, 0xff, 0x50, 0x18],
            &[0x42, 0xff, 0x94, 0xc0, 1, 2, 3, 4],
        ];
        for code in calls {
            assert!(ends_with_call(Machine::X86_64, code), "{code:x?}");
        }
        for code in [[0x90u8; 8], [0xe8, 1, 2, 3, 4, 0x90, 0x90, 0xc3]] {
            assert!(!ends_with_call(Machine::X86_64, &code), "{code:x?}");
        }
        assert!(ends_with_call(Machine::Aarch64, &0x9400_0010_u32.to_le_bytes()));
        assert!(ends_with_call(Machine::Aarch64, &0xd63f_0100_u32.to_le_bytes()));
        assert!(!ends_with_call(Machine::Aarch64, &0xd61f_0100_u32.to_le_bytes()));
    }
}
