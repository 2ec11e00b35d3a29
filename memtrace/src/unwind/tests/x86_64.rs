//! Rows of handmade descriptions for x86_64.

use memtrace_common::Row;

use super::{CALL, CODE, Sample, cfa, row};

const RBX: u8 = 3;
const RBP: u8 = 6;
const RSP: u8 = 7;
const RIP: u8 = 16;
const NOP: u8 = 0x90;

fn none(pc: u32) -> Row {
    row(pc, Row::NO_FDE, 0, 0)
}

/// The row in force at the one call of a function with these instructions.
fn rule_of(instructions: &[u8]) -> Row {
    let mut sample = Sample::x86_64(&CALL);
    let cie = sample.usual_cie();
    sample.fde(cie, 0, 5, instructions);
    let table = sample.table();
    assert_eq!(table.base(), CODE);
    assert_eq!(table.rows().len(), 1, "{:?}", table.rows());
    table.rows()[0]
}

#[test]
fn keeps_rows_with_calls_only() {
    // push %rbp; mov %rsp,%rbp; call; pop %rbp; ret; nop...; then the same with sub $24,%rsp
    let mut code = vec![0x55, 0x48, 0x89, 0xe5];
    code.extend_from_slice(&CALL);
    code.extend_from_slice(&[0x5d, 0xc3, NOP, NOP, NOP, NOP, NOP]);
    code.extend_from_slice(&[0x48, 0x83, 0xec, 0x18]);
    code.extend_from_slice(&CALL);
    code.extend_from_slice(&[0x48, 0x83, 0xc4, 0x18, 0xc3]);
    let mut sample = Sample::x86_64(&code);
    let cie = sample.usual_cie();
    let (at_rbp, after_call) = (cfa::advance(3), cfa::advance(6));
    let mut first = vec![cfa::advance(1), cfa::DEF_CFA_OFFSET, 16, cfa::offset(RBP), 2];
    first.extend_from_slice(&[at_rbp, cfa::DEF_CFA_REGISTER, RBP, after_call, cfa::DEF_CFA, RSP, 8]);
    sample.fde(cie, 0, 11, &first);
    let second = [cfa::advance(4), cfa::DEF_CFA_OFFSET, 32, cfa::advance(9), cfa::DEF_CFA_OFFSET, 8];
    sample.fde(cie, 16, 14, &second);
    let table = sample.table();
    assert_eq!(table.rows(), [none(0), row(4, Row::FP, 2, 2), row(20, Row::SP, 4, 0)]);
    // The call's return address minus one is in the call, though its row ends there.
    assert_eq!(table.lookup(CODE + 20 + 5 - 1), Some(row(20, Row::SP, 4, 0)));
    assert_eq!(table.lookup(CODE + 9 - 1), Some(row(4, Row::FP, 2, 2)));
    assert_eq!(table.lookup(CODE - 1), None);
    assert_eq!(table.lookup(CODE + (1 << 32)), None);
}

#[test]
fn every_shape_of_call_keeps_its_row_and_nothing_else_does() {
    let keeps = |code: &[u8]| {
        let mut sample = Sample::x86_64(code);
        let cie = sample.usual_cie();
        sample.fde(cie, 0, code.len() as u64, &[]);
        sample.table().rows()[0].kind == Row::SP
    };
    assert!(keeps(&[NOP, 0xe8, 1, 2, 3, 4]));
    assert!(keeps(&[0xff, 0xd0]), "call *%rax");
    assert!(keeps(&[0x41, 0xff, 0xd4]), "call *%r12");
    assert!(keeps(&[0xff, 0x15, 1, 2, 3, 4]), "call *x(%rip)");
    assert!(keeps(&[0xff, 0x54, 0x24, 0x08]), "call *8(%rsp)");
    assert!(keeps(&[0x0f, 0x05]), "syscall");
    assert!(!keeps(&[NOP, 0xe8, 1, 2, 3]), "cut short");
    assert!(!keeps(&[0xff]), "cut short");
    assert!(!keeps(&[0xff, 0xe0, 0xff, 0x25, 0, 0, 0, 0, 0xff, 0x70, 0x08]), "jmp, jmp, push");
    assert!(!keeps(&[0xc3, 0xe9, 1, 2, 3, 4]), "ret, jmp");
}

#[test]
fn calls_are_found_where_the_code_is_read_in_pieces() {
    for at in (262_132..262_150).chain([600_000]) {
        let mut code = vec![NOP; 700_000];
        code[at..at + 5].copy_from_slice(&CALL);
        let mut sample = Sample::x86_64(&code);
        let cie = sample.usual_cie();
        sample.fde(cie, 0, code.len() as u64, &[]);
        assert_eq!(sample.table().rows(), [row(0, Row::SP, 1, 0)], "{at}");
    }
}

#[test]
fn rules_for_the_cfa() {
    let sp = |offset: u16| Row { pc: 0, cfa: offset, kind: Row::SP, fp: 0 };
    assert_eq!(rule_of(&[cfa::DEF_CFA_OFFSET, 0xf8, 0xff, 0x1f]), sp(0xffff));
    let far = |offset: u16| Row { kind: Row::SP_FAR, ..sp(offset) };
    assert_eq!(rule_of(&[cfa::DEF_CFA_OFFSET, 0x80, 0x80, 0x20]), far(0));
    assert_eq!(rule_of(&[cfa::DEF_CFA_OFFSET, 0xf8, 0xff, 0x3f]), far(0xffff));
    assert_eq!(rule_of(&[cfa::DEF_CFA_OFFSET, 0x80, 0x80, 0x40]).kind, Row::UNSUPPORTED);
    assert_eq!(rule_of(&[cfa::DEF_CFA_OFFSET, 12]).kind, Row::UNSUPPORTED);
    assert_eq!(rule_of(&[cfa::DEF_CFA_REGISTER, RBX]).kind, Row::UNSUPPORTED);
    assert_eq!(rule_of(&[cfa::DEF_CFA, RBP, 16]), row(0, Row::FP, 2, 0));
    let expression = |code: &[u8]| rule_of(&[&[cfa::DEF_CFA_EXPRESSION, code.len() as u8], code].concat());
    // DW_OP_breg6 -8; DW_OP_deref
    assert_eq!(expression(&[0x76, 0x78, 0x06]), row(0, Row::FP_DEREF, 0xfff8, 0));
    // DW_OP_breg7 320; DW_OP_deref; DW_OP_plus_uconst 8
    assert_eq!(expression(&[0x77, 0xc0, 0x02, 0x06, 0x23, 8]), row(0, Row::SP_DEREF, 40 | 1 << 8, 0));
    assert_eq!(expression(&[0x77, 0x00, 0x06]), row(0, Row::SP_DEREF, 0, 0));
    for unsupported in [
        &[0x77, 0x78, 0x06][..],               // below the stack pointer
        &[0x77, 0x80, 0x10, 0x06],             // 2048 above it
        &[0x77, 0x04, 0x06],                   // between two slots
        &[0x73, 0x08, 0x06],                   // another register
        &[0x76, 0x78, 0x06, 0x23, 8],          // frame pointer and a constant
        &[0x76, 0x78, 0x94, 4],                // four bytes
        &[0x77, 0x08, 0x06, 0x23, 8, 0x23, 8], // too long
        &[0x77, 0x08],                         // no memory
        &[0xff],                               // no operation
    ] {
        assert_eq!(expression(unsupported).kind, Row::UNSUPPORTED, "{unsupported:x?}");
    }
}

#[test]
fn rules_for_the_frame_pointer_and_the_return_address() {
    assert_eq!(rule_of(&[cfa::offset(RBP), 0xfe, 0x01]), row(0, Row::SP, 1, 254));
    assert_eq!(rule_of(&[cfa::offset(RBP), 0xff, 0x01]).kind, Row::UNSUPPORTED);
    let at = |offset| rule_of(&[cfa::EXPRESSION, RBP, 2, 0x76, offset]);
    assert_eq!(at(0), row(0, Row::SP, 1, Row::AT_FP));
    assert_eq!(at(8).kind, Row::UNSUPPORTED);
    assert_eq!(rule_of(&[cfa::UNDEFINED, RIP]), row(0, Row::END, 0, 0));
    assert_eq!(rule_of(&[cfa::offset(RIP), 2]).kind, Row::UNSUPPORTED);
    assert_eq!(rule_of(&[cfa::offset(RBX), 2]), row(0, Row::SP, 1, 0));
}

#[test]
fn code_without_description_gets_no_other_codes_rule() {
    let code = [CALL, CALL, CALL, CALL].concat();
    let mut sample = Sample::x86_64(&code);
    let cie = sample.usual_cie();
    sample.fde(cie, 5, 5, &[]);
    let kinds = |sample: &Sample| {
        let table = sample.table();
        (0..4).map(|call| table.lookup(CODE + call * 5 + 4).unwrap().kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(&sample), [Row::NO_FDE, Row::SP, Row::NO_FDE, Row::NO_FDE]);
    // What lies outside the code does not count, and what goes beyond it ends with it.
    sample.fde(cie, 0xffff_0000, 5, &[cfa::UNDEFINED, RIP]);
    sample.fde(cie, 15, 5000, &[cfa::UNDEFINED, RIP]);
    assert_eq!(kinds(&sample), [Row::NO_FDE, Row::SP, Row::NO_FDE, Row::END]);
    // Of descriptions that overlap, the nearest one counts.
    sample.fde(cie, 0, 20, &[cfa::DEF_CFA_REGISTER, RBP]);
    assert_eq!(kinds(&sample), [Row::FP, Row::SP, Row::NO_FDE, Row::END]);
}

#[test]
fn instructions_that_fail_leave_the_rest_unsupported() {
    let mut sample = Sample::x86_64(&[CALL, CALL].concat());
    let cie = sample.usual_cie();
    sample.fde(cie, 0, 10, &[cfa::advance(5), cfa::RESTORE_STATE]);
    let unsupported = row(5, Row::UNSUPPORTED, 0, 0);
    assert_eq!(sample.table().rows(), [row(0, Row::SP, 1, 0), unsupported]);
    let mut sample = Sample::x86_64(&CALL);
    let cie = sample.cie("zR", 16, &[cfa::RESTORE_STATE]);
    sample.fde(cie, 0, 5, &[]);
    assert_eq!(sample.table().rows()[0].kind, Row::UNSUPPORTED);
    let mut sample = Sample::x86_64(&CALL);
    let cie = sample.cie("zR", 8, &[cfa::DEF_CFA, 7, 8, cfa::offset(8), 1]);
    sample.fde(cie, 0, 5, &[]);
    assert_eq!(sample.table().rows()[0].kind, Row::UNSUPPORTED, "another return address column");
}

/// mov $15,%rax; syscall, described as the kernel lays out the context.
fn trampoline(rip: u8) -> Sample {
    let mut code = CALL.to_vec();
    code.resize(16, NOP);
    code.extend_from_slice(&[0x48, 0xc7, 0xc0, 15, 0, 0, 0, 0x0f, 0x05]);
    let mut sample = Sample::x86_64(&code);
    let usual = sample.usual_cie();
    sample.fde(usual, 0, 5, &[]);
    let signal = sample.cie("zRS", 16, &[]);
    let mut context = vec![cfa::DEF_CFA_EXPRESSION, 4, 0x77, 0xa0, 1, 0x06];
    context.extend_from_slice(&[cfa::EXPRESSION, RBP, 3, 0x77, 0xf8, 0]);
    context.extend_from_slice(&[cfa::EXPRESSION, RIP, 3, 0x77, rip, 1]);
    sample.fde(signal, 16, 9, &context);
    sample
}

#[test]
fn signal_trampolines_are_found_by_their_address_and_by_the_one_before() {
    let sample = trampoline(0xa8);
    let table = sample.table();
    assert_eq!(table.rows(), [row(0, Row::SP, 1, 0), row(15, Row::SIGNAL, 0, 0)]);
    let kind = |at| table.lookup(CODE + at).unwrap().kind;
    assert_eq!([kind(4), kind(14), kind(15), kind(16)], [Row::SP, Row::SP, Row::SIGNAL, Row::SIGNAL]);
    // Not the kernel's layout.
    assert_eq!(trampoline(0xb0).table().lookup(CODE + 16).unwrap().kind, Row::UNSUPPORTED);
}

#[test]
fn coroutines_end_where_makecontext_let_them_begin() {
    for endbr in [&[][..], &[0xf3, 0x0f, 0x1e, 0xfa]] {
        let mut code = CALL.to_vec();
        code.resize(16, NOP);
        // mov %rbx,%rsp; call
        code.extend_from_slice(endbr);
        code.extend_from_slice(&[0x48, 0x89, 0xdc]);
        code.extend_from_slice(&CALL);
        let mut sample = Sample::x86_64(&code);
        let cie = sample.usual_cie();
        sample.fde(cie, 0, 5, &[]);
        sample.fde(cie, 16, 8 + endbr.len() as u64, &[]);
        assert_eq!(sample.table().rows(), [row(0, Row::SP, 1, 0), row(15, Row::END, 0, 0)]);
    }
}

#[test]
fn finds_frames_without_section_headers_and_in_debug_frame() {
    let mut sample = trampoline(0xa8);
    let expected = sample.table();
    sample.stripped = true;
    assert_eq!(sample.table(), expected);
    sample.stripped = false;
    // Version 1, no augmentation; its CIE is marked by all ones, and FDEs name it by its offset.
    sample.eh_frame.clear();
    let cie: [&[u8]; 3] = [
        &[16, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 0, 1, 0x78, 16],
        &[cfa::DEF_CFA, 7, 16],
        &[cfa::offset(16), 1, 0, 0],
    ];
    sample.debug_frame = cie.concat();
    let fde: [&[u8]; 4] = [&[20, 0, 0, 0, 0, 0, 0, 0], &CODE.to_le_bytes(), &5u64.to_le_bytes(), &[]];
    sample.debug_frame[0] = sample.debug_frame.len() as u8 - 4;
    sample.debug_frame.extend_from_slice(&fde.concat());
    assert_eq!(sample.table().rows()[0], row(0, Row::SP, 2, 0));
    // Of two for the same code, .eh_frame's counts.
    let cie = sample.usual_cie();
    sample.fde(cie, 0, 5, &[]);
    assert_eq!(sample.table().rows()[0], row(0, Row::SP, 1, 0));
    // What cannot be read is not needed then.
    sample.debug_frame[8] = 9;
    assert_eq!(sample.table().rows()[0], row(0, Row::SP, 1, 0));
}
