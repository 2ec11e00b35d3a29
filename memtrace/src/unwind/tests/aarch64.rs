//! Rows of handmade descriptions for aarch64.

use memtrace_common::Row;
use object::elf;

use super::{CODE, Sample, cfa, row};

const FP: u8 = 29;
const LR: u8 = 30;
const SP: u8 = 31;

fn sample(words: &[u32]) -> Sample {
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    Sample { machine: elf::EM_AARCH64, ..Sample::x86_64(&code) }
}

/// The row in force at the one BL of a function with these instructions.
fn rule_of(instructions: &[u8]) -> Row {
    let mut sample = sample(&[0x9400_0000]);
    let cie = sample.cie("zR", LR, &[cfa::DEF_CFA, SP, 0]);
    sample.fde(cie, 0, 4, instructions);
    let table = sample.table();
    assert_eq!(table.rows().len(), 1);
    table.rows()[0]
}

#[test]
fn every_place_of_the_return_address() {
    assert_eq!(rule_of(&[]), row(0, Row::LEAF, 0, 0));
    assert_eq!(rule_of(&[cfa::DEF_CFA_OFFSET, 32]), row(0, Row::LEAF, 4, 0));
    // stp x29,x30,[sp,#-48]!, and mov x29,sp
    let pair = [cfa::DEF_CFA_OFFSET, 48, cfa::offset(FP), 6, cfa::offset(LR), 5];
    assert_eq!(rule_of(&pair), row(0, Row::SP, 6, 6));
    let signed = [&[cfa::NEGATE_RA_STATE], &pair[..]].concat();
    assert_eq!(rule_of(&signed), row(0, Row::SP, 6, 6));
    let framed = [&pair[..], &[cfa::DEF_CFA_REGISTER, FP]].concat();
    assert_eq!(rule_of(&framed), row(0, Row::FP, 6, 6));
    // A frame of 4096 bytes with the pair at its lower end.
    let large = [cfa::DEF_CFA_OFFSET, 0x80, 0x20, cfa::offset(FP), 0x80, 4, cfa::offset(LR), 0xff, 3];
    assert_eq!(rule_of(&large), row(0, Row::SP, 512, Row::AT_SP));
    let large = [&large[..], &[cfa::DEF_CFA_REGISTER, FP]].concat();
    assert_eq!(rule_of(&large), row(0, Row::FP, 512, Row::AT_FP));
    let lr_only = [cfa::DEF_CFA_OFFSET, 16, cfa::offset(LR), 2];
    assert_eq!(rule_of(&lr_only), row(0, Row::SP_LR, 2, 2));
    let lr_only = [&lr_only[..], &[cfa::DEF_CFA_REGISTER, FP]].concat();
    assert_eq!(rule_of(&lr_only), row(0, Row::FP_LR, 2, 2));
    assert_eq!(rule_of(&[cfa::UNDEFINED, LR]), row(0, Row::END, 0, 0));
}

#[test]
fn what_no_row_can_say_is_unsupported() {
    for unsupported in [
        &[cfa::DEF_CFA_OFFSET, 48, cfa::offset(FP), 5, cfa::offset(LR), 6][..],
        &[cfa::DEF_CFA_OFFSET, 48, cfa::offset(FP), 6],
        &[cfa::DEF_CFA, 19, 16, cfa::offset(FP), 2, cfa::offset(LR), 1],
        &[cfa::DEF_CFA_OFFSET, 0x80, 0x20, cfa::offset(FP), 0x80, 3, cfa::offset(LR), 0xff, 2],
        &[cfa::DEF_CFA, FP, 16],
    ] {
        assert_eq!(rule_of(unsupported).kind, Row::UNSUPPORTED, "{unsupported:x?}");
    }
}

#[test]
fn calls_are_aligned_words() {
    let keeps = |words: &[u32]| {
        let mut sample = sample(words);
        let cie = sample.cie("zR", LR, &[cfa::DEF_CFA, SP, 0]);
        sample.fde(cie, 0, words.len() as u64 * 4, &[]);
        sample.table().rows()[0].kind == Row::LEAF
    };
    const NOP: u32 = 0xd503_201f;
    for (call, name) in [
        (0x9400_0001, "bl"),
        (0x97ff_ffff, "bl backwards"),
        (0xd63f_0200, "blr x16"),
        (0xd73f_0a11, "blraa x16, x17"),
        (0xd63f_0a1f, "blraaz x16"),
        (0xd400_0001, "svc #0"),
    ] {
        assert!(keeps(&[NOP, call]), "{name}");
    }
    for (other, name) in
        [(0x1400_0001, "b"), (0xd61f_0200, "br x16"), (0xd65f_03c0, "ret"), (0x0194_0000, "no bl")]
    {
        assert!(!keeps(&[NOP, other, 0x0000_0094]), "{name}");
    }
}

#[test]
fn signal_trampolines_begin_early() {
    let mut sample = sample(&[0x9400_0000, 0xd503_201f, 0xd280_1168, 0xd400_0001]);
    let usual = sample.cie("zR", LR, &[cfa::DEF_CFA, SP, 0]);
    sample.fde(usual, 0, 4, &[]);
    let signal = sample.cie("zRS", LR, &[cfa::DEF_CFA, FP, 0, cfa::offset(FP), 0]);
    sample.fde(signal, 8, 8, &[]);
    let table = sample.table();
    assert_eq!(table.rows(), [row(0, Row::LEAF, 0, 0), row(7, Row::SIGNAL, 0, 0)]);
    assert_eq!(table.lookup(CODE + 7).unwrap().kind, Row::SIGNAL);
}
