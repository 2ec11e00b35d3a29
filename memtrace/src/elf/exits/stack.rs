//! Where the return address is: the distances of the stack and the frame pointer to the canonical frame address.

use iced_x86::{Code, Instruction, Mnemonic, OpKind, Register};

use super::registers::{Effects, General, is_call};

const RSP: General = General(4);
const RBP: General = General(5);

/// What is known before an instruction. Distances are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stack {
    /// CFA minus stack pointer.
    pub(super) sp: Option<i64>,
    /// CFA minus frame pointer.
    pub(super) fp: Option<i64>,
}

/// At a function's entry: the return address has just been pushed.
pub(super) const ENTRY: Stack = Stack { sp: Some(8), fp: None };

impl Stack {
    /// What holds on every way to an instruction.
    pub(super) fn join(self, other: Self) -> Self {
        let same = |one: Option<i64>, two: Option<i64>| one.filter(|_| one == two);
        Self { sp: same(self.sp, other.sp), fp: same(self.fp, other.fp) }
    }

    /// What holds after an instruction.
    pub(super) fn after(self, instruction: &Instruction, effects: &mut Effects) -> Self {
        // Callees leave both as they were.
        if is_call(instruction) {
            return self;
        }
        if instruction.mnemonic() == Mnemonic::Leave {
            return Self { sp: self.fp.and_then(|fp| fp.checked_sub(8)), fp: None };
        }
        Self { sp: self.sp_after(instruction, effects), fp: self.fp_after(instruction, effects) }
    }

    fn sp_after(self, instruction: &Instruction, effects: &mut Effects) -> Option<i64> {
        let increment = i64::from(instruction.stack_pointer_increment());
        if increment != 0 {
            // push and pop; pops into the stack pointer are not supported.
            let pops_itself =
                instruction.mnemonic() == Mnemonic::Pop && instruction.op0_register() == Register::RSP;
            return self.sp.filter(|_| !pops_itself)?.checked_sub(increment);
        }
        if effects.writes(instruction, RSP) { self.computed(instruction, Register::RSP) } else { self.sp }
    }

    fn fp_after(self, instruction: &Instruction, effects: &mut Effects) -> Option<i64> {
        if effects.writes(instruction, RBP) { self.computed(instruction, Register::RBP) } else { self.fp }
    }

    /// The distance of a register that is set from one of the two.
    fn computed(self, instruction: &Instruction, register: Register) -> Option<i64> {
        let distance = |from: Register| match from {
            Register::RSP => self.sp,
            Register::RBP => self.fp,
            _ => None,
        };
        if instruction.op0_register() != register {
            return None;
        }
        match instruction.code() {
            Code::Mov_r64_rm64 | Code::Mov_rm64_r64 if instruction.op1_kind() == OpKind::Register => {
                distance(instruction.op1_register())
            }
            Code::Lea_r64_m if instruction.memory_index() == Register::None => {
                distance(instruction.memory_base())?.checked_sub(instruction.memory_displacement64() as i64)
            }
            Code::Add_rm64_imm8 | Code::Add_rm64_imm32 => {
                distance(register)?.checked_sub(instruction.immediate(1) as i64)
            }
            Code::Sub_rm64_imm8 | Code::Sub_rm64_imm32 => {
                distance(register)?.checked_add(instruction.immediate(1) as i64)
            }
            _ => None,
        }
    }
}
