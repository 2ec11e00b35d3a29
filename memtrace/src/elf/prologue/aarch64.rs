//! aarch64: always the first instruction.
//!
//! Kernels differ in what they simulate, and the usual first instructions (`stp`, `sub sp`, `bti`, `paciasp`)
//! are simulated by none or few; moving the probe would gain little.

use crate::model::Site;

pub(super) fn choose(code: &[u8]) -> Site {
    let emulated = code.first_chunk().is_some_and(|word| is_simulated(u32::from_le_bytes(*word)));
    Site { delta: 0, emulated }
}

/// What `arm_probe_decode_insn` has simulated for uprobes since their beginning. Not here: NOP, simulated
/// since 6.13 only, and LDR (literal), rejected since 6.12.
fn is_simulated(word: u32) -> bool {
    const RULES: [(u32, u32); 8] = [
        (0x7c00_0000, 0x1400_0000), // B, BL
        (0xff00_0010, 0x5400_0000), // B.cond
        (0x7e00_0000, 0x3400_0000), // CBZ, CBNZ
        (0x7e00_0000, 0x3600_0000), // TBZ, TBNZ
        (0x1f00_0000, 0x1000_0000), // ADR, ADRP
        (0xffff_fc1f, 0xd61f_0000), // BR
        (0xffff_fc1f, 0xd63f_0000), // BLR
        (0xffff_fc1f, 0xd65f_0000), // RET
    ];
    RULES.iter().any(|(mask, value)| word & mask == *value)
}

#[cfg(test)]
mod tests {
    use super::choose;
    use crate::model::Site;

    #[test]
    fn is_the_first_instruction_and_tells_whether_it_is_simulated() {
        let cases: [(u32, bool); 10] = [
            (0xa9bd_7bfd, false), // stp x29, x30, [sp, #-48]!
            (0xd503_245f, false), // bti c
            (0xd503_201f, false), // nop
            (0x5800_0040, false), // ldr x0, .+8
            (0x1400_0004, true),  // b .+16
            (0xb400_0060, true),  // cbz x0, .+12
            (0x9000_0001, true),  // adrp x1, .
            (0x5400_0060, true),  // b.eq .+12
            (0x3600_0040, true),  // tbz w0, #0, .+8
            (0xd65f_03c0, true),  // ret
        ];
        for (word, emulated) in cases {
            assert_eq!(choose(&word.to_le_bytes()), Site { delta: 0, emulated }, "{word:#x}");
        }
        assert_eq!(choose(&[0x00, 0x14]), Site { delta: 0, emulated: false });
    }
}
