//! Rows of a library that the machine's own assembler and linker make.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::print_stderr, reason = "says what was skipped")]

use std::process::Command;

use memtrace_common::Row;

use super::super::Table;
use super::generous;
use crate::elf::Image;

/// One function for each way to keep a frame; each calls once, at a label.
const SOURCE: &str = r#"
    .text
    .macro function name
    .globl \name, \name\()_call
    .type \name, @function
    .p2align 4
\name:
    .cfi_startproc
    .endm
    .macro called name
    call target
\name\()_call:
    .endm
    .macro end name
    ret
    .cfi_endproc
    .size \name, . - \name
    .endm

    .globl target, undescribed_call
target: ret

    function fixed
    sub $40, %rsp
    .cfi_adjust_cfa_offset 40
    called fixed
    add $40, %rsp
    .cfi_adjust_cfa_offset -40
    end fixed

    function framed
    push %rbp
    .cfi_def_cfa_offset 16
    .cfi_offset %rbp, -16
    mov %rsp, %rbp
    .cfi_def_cfa_register %rbp
    push %rbx
    .cfi_offset %rbx, -24
    sub %rdi, %rsp
    called framed
    mov -8(%rbp), %rbx
    leave
    .cfi_def_cfa %rsp, 8
    end framed

    function aligned
    lea 8(%rsp), %r10
    .cfi_def_cfa %r10, 0
    and $-64, %rsp
    push -8(%r10)
    push %rbp
    mov %rsp, %rbp
    .cfi_escape 0x10,0x6,0x2,0x76,0
    push %r10
    .cfi_escape 0xf,0x3,0x76,0x78,0x6
    called aligned
    pop %r10
    .cfi_def_cfa %r10, 0
    pop %rbp
    lea -8(%r10), %rsp
    .cfi_def_cfa %rsp, 8
    end aligned

    function noreturn
    push %rax
    .cfi_def_cfa_offset 16
    called noreturn
    .cfi_endproc

    function outermost
    .cfi_undefined %rip
    called outermost
    end outermost

    call target
undescribed_call:
    ret
    .section .note.GNU-stack,"",@progbits
"#;

#[test]
fn every_call_has_its_own_functions_rule() {
    let directory = tempfile::tempdir().unwrap();
    let (source, library) = (directory.path().join("frames.s"), directory.path().join("frames.so"));
    std::fs::write(&source, SOURCE).unwrap();
    let compiler =
        Command::new("cc").args(["-shared", "-nostdlib", "-o"]).arg(&library).arg(&source).status();
    let Ok(status) = compiler else {
        eprintln!("skipped: no C compiler");
        return;
    };
    assert!(status.success());
    let expected = [
        ("fixed_call", Row::SP, 6, 0),
        ("framed_call", Row::FP, 2, 2),
        ("aligned_call", Row::FP_DEREF, 0xfff8, Row::AT_FP),
        ("noreturn_call", Row::SP, 2, 0),
        ("outermost_call", Row::END, 0, 0),
        ("undescribed_call", Row::NO_FDE, 0, 0),
    ];
    let image = Image::open(&library).unwrap();
    let table = Table::build(&image, generous()).unwrap();
    let names: Vec<&str> = expected.iter().map(|(name, ..)| *name).collect();
    let symbols = image.symbols(&names).unwrap();
    for (name, kind, cfa, fp) in expected {
        let symbol = symbols.iter().find(|symbol| symbol.name == name).unwrap();
        let row = table.lookup(symbol.address - 1).unwrap();
        assert_eq!((row.kind, row.cfa, row.fp), (kind, cfa, fp), "{name}");
    }
    // One row each, and one for what nothing describes before the first function.
    assert_eq!(table.rows().len(), expected.len() + 1, "{:#?}", table.rows());
}
