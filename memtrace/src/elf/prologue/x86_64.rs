//! x86_64: the first instruction that `arch/x86/kernel/uprobes.c` emulates.

use iced_x86::{
    Code, Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register,
};

use crate::model::{Role, Site};

use super::MAX_FUNCTION;

/// The System V ABI's argument registers, in order.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

pub(super) fn choose(code: &[u8], size: u64, role: Role) -> Site {
    let body = usize::try_from(size).ok().and_then(|size| code.get(..size)).unwrap_or(code);
    let first = first_instruction(code);
    if size == 0 {
        return first;
    }
    let delta = first_jump_target(body, size).and_then(|limit| straight_line(body, limit, role));
    delta.map_or(first, |delta| Site { delta, emulated: true })
}

fn first_instruction(code: &[u8]) -> Site {
    let instruction = decoder(code).decode();
    Site { delta: 0, emulated: is_emulated(code.get(..instruction.len()).unwrap_or_default()) }
}

/// A decoder that gives offsets in the function as instruction pointers.
fn decoder(code: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, code, 0, DecoderOptions::NONE)
}

/// Where the first instruction is, after the entry, that the function itself jumps to; the function's end
/// when there is none. From there on the straight line is not only entered from above: a loop would pass a
/// site more than once in a call. `None` when the function does not decode.
fn first_jump_target(body: &[u8], size: u64) -> Option<u64> {
    let mut decoder = decoder(body);
    let mut first = size;
    while decoder.can_decode() {
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            let cut_off =
                decoder.last_error() == DecoderError::NoMoreBytes && body.len() as u64 >= MAX_FUNCTION;
            return cut_off.then_some(first);
        }
        let jumps = matches!(
            instruction.flow_control(),
            FlowControl::ConditionalBranch
                | FlowControl::UnconditionalBranch
                | FlowControl::XbeginXabortXend
                | FlowControl::Call
        );
        // A jump to the entry is a call in all but name, and passes every site like one. A target outside the
        // function is either above its end or, wrapped around, above it too.
        if jumps && has_near_target(&instruction) && instruction.near_branch_target() != 0 {
            first = first.min(instruction.near_branch_target());
        }
    }
    Some(first)
}

fn has_near_target(instruction: &Instruction) -> bool {
    matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64)
}

/// The offset of the best site below `limit` that is reached from the entry without a jump; `None` when
/// there is none.
fn straight_line(body: &[u8], limit: u64, role: Role) -> Option<u64> {
    let keep = registers_to_keep(role);
    let mut decoder = decoder(body);
    let mut info = InstructionInfoFactory::new();
    // free's jump over everything for NULL: a site, but behind it free(NULL) costs nothing.
    let mut null_jump = None;
    let mut after_null_test = false;
    while decoder.can_decode() && decoder.ip() < limit {
        let offset = decoder.ip();
        let instruction = decoder.decode();
        let start = usize::try_from(offset).ok()?;
        let bytes = body.get(start..start.checked_add(instruction.len())?)?;
        if is_emulated(bytes) {
            let skips_null = role == Role::Free && after_null_test && instruction.mnemonic() == Mnemonic::Je;
            if !skips_null {
                return Some(offset);
            }
            null_jump = Some(offset);
        } else if instruction.flow_control() != FlowControl::Next || writes(&mut info, &instruction, &keep) {
            break;
        }
        after_null_test = is_null_test(&instruction);
    }
    null_jump
}

/// The registers that must be unchanged since the entry. The kernel takes the return address to replace from
/// where %rsp points, so a return probe needs that one too.
fn registers_to_keep(role: Role) -> Vec<Register> {
    let argument = |number: u8| ARGUMENTS.get(usize::from(number)).copied();
    match role {
        Role::Free => vec![Register::RDI],
        Role::Map(_) => vec![Register::RDI, Register::RSI, Register::RDX, Register::RSP],
        Role::Allocate(layout) => [Some(layout.size), layout.count, layout.old, layout.out]
            .into_iter()
            .flatten()
            .filter_map(argument)
            .chain([Register::RSP])
            .collect(),
    }
}

fn writes(info: &mut InstructionInfoFactory, instruction: &Instruction, keep: &[Register]) -> bool {
    info.info(instruction).used_registers().iter().any(|used| {
        let written = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        written && keep.contains(&used.register().full_register())
    })
}

/// `test %rdi,%rdi` or `cmp $0,%rdi`.
fn is_null_test(instruction: &Instruction) -> bool {
    if instruction.op0_register() != Register::RDI {
        return false;
    }
    match instruction.code() {
        Code::Test_rm64_r64 => instruction.op1_register() == Register::RDI,
        Code::Cmp_rm64_imm8 | Code::Cmp_rm64_imm32 | Code::Cmp_RAX_imm32 => instruction.immediate(1) == 0,
        _ => false,
    }
}

/// Whether the kernel emulates this one instruction: `push_setup_xol_ops` and `branch_setup_xol_ops` as they
/// have been since 4.16. Prefixes are left out though some are accepted, and so are the longer nops, which
/// only newer kernels emulate: on either the answer would depend on the kernel.
pub(in crate::elf) fn is_emulated(instruction: &[u8]) -> bool {
    matches!(
        instruction,
        [0x50..=0x57]                         // push
            | [0x41, 0x50..=0x57]             // push %r8 … %r15
            | [0x90]                          // nop
            | [0xeb | 0x70..=0x7f, _]         // jmp, jcc rel8
            | [0xe8 | 0xe9, _, _, _, _]       // call, jmp rel32
            | [0x0f, 0x80..=0x8f, _, _, _, _] // jcc rel32
    )
}

#[cfg(test)]
#[path = "x86_64_tests.rs"]
mod tests;
