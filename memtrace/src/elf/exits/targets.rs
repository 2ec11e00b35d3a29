//! Where jumps and calls lead.

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind, Register};

use super::{Code, Slot};

/// Functions that do not return. Code after a call of one is reached in another way, or not at all.
const NEVER_RETURN: &[&str] = &[
    "__assert_fail",
    "__cxa_bad_cast",
    "__cxa_rethrow",
    "__cxa_throw",
    "__cxa_throw_bad_array_new_length",
    "__fortify_fail",
    "__stack_chk_fail",
    "_Exit",
    "_Unwind_Resume",
    "_ZSt16__throw_bad_castv",
    "_ZSt17__throw_bad_allocv",
    "_ZSt20__throw_length_errorPKc",
    "_ZSt9terminatev",
    "_exit",
    "abort",
    "exit",
    "longjmp",
    "pthread_exit",
    "siglongjmp",
];

/// Whether a function of another file does not return.
pub(super) fn never_returns(name: &str) -> bool {
    NEVER_RETURN.contains(&name)
}

/// What a jump or call leads to.
pub(super) enum Target {
    /// Code of this file.
    Address(u64),
    /// A function of another file, by its name.
    Foreign(String),
    /// A place that is computed or loaded.
    Unknown,
}

/// Where a jump or call goes, through the PLT and the GOT. `is_own`: the address is known to be a function's code, not an
/// entry of the PLT.
pub(super) fn of(code: &dyn Code, instruction: &Instruction, is_own: &dyn Fn(u64) -> bool) -> Target {
    let near =
        matches!(instruction.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    if !near {
        return behind_slot(code, instruction).unwrap_or(Target::Unknown);
    }
    let address = instruction.near_branch_target();
    if is_own(address) {
        return Target::Address(address);
    }
    behind_stub(code, address).unwrap_or(Target::Address(address))
}

/// Where an entry of the PLT leads: it is a jump through a slot, possibly with `endbr64` before it.
fn behind_stub(code: &dyn Code, address: u64) -> Option<Target> {
    let bytes = code.stub(address)?;
    let mut decoder = Decoder::with_ip(64, &bytes, address, DecoderOptions::NONE);
    let mut instruction = decoder.decode();
    if instruction.code() == iced_x86::Code::Endbr64 {
        instruction = decoder.decode();
    }
    let is_stub = instruction.flow_control() == FlowControl::IndirectBranch
        && instruction.memory_base() == Register::RIP;
    is_stub.then(|| behind_slot(code, &instruction).unwrap_or(Target::Unknown))
}

fn behind_slot(code: &dyn Code, instruction: &Instruction) -> Option<Target> {
    if instruction.op0_kind() != OpKind::Memory || instruction.memory_base() != Register::RIP {
        return None;
    }
    match code.slot(instruction.memory_displacement64())? {
        Slot::Own(address) => Some(Target::Address(address)),
        Slot::Foreign(name) => Some(Target::Foreign(name)),
    }
}
