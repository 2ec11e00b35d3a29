//! Registers by number, and what instructions do to them.

use iced_x86::{FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

/// A 64-bit general register by its number in instructions: rax 0, rcx 1, rdx 2, rbx 3, rsp 4, rbp 5, rsi 6, rdi 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct General(pub(super) u8);

pub(super) const RAX: General = General(0);
pub(super) const RDI: General = General(7);

impl General {
    /// The register that a part of it belongs to.
    pub(super) fn of(register: Register) -> Option<Self> {
        register.is_gpr().then(|| Self(register.full_register().number() as u8))
    }
}

/// What an instruction writes.
pub(super) struct Effects(InstructionInfoFactory);

impl Effects {
    pub(super) fn new() -> Self {
        Self(InstructionInfoFactory::new())
    }

    /// Whether it changes a register; the effects of a call are unknown here.
    pub(super) fn writes(&mut self, instruction: &Instruction, register: General) -> bool {
        self.0
            .info(instruction)
            .used_registers()
            .iter()
            .any(|used| is_write(used.access()) && General::of(used.register()) == Some(register))
    }

    /// Whether it writes to memory.
    pub(super) fn writes_memory(&mut self, instruction: &Instruction) -> bool {
        self.0.info(instruction).used_memory().iter().any(|used| is_write(used.access()))
    }
}

pub(super) fn is_call(instruction: &Instruction) -> bool {
    matches!(instruction.flow_control(), FlowControl::Call | FlowControl::IndirectCall)
}

fn is_write(access: OpAccess) -> bool {
    matches!(access, OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite)
}
