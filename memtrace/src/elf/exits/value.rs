//! Where the function's result is before each instruction, once it no longer changes.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};

use super::{
    graph::{Exit, Graph, Node},
    registers::{Effects, General, is_call},
};

/// What the ways from an instruction to the exits have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Value {
    /// None of them has been visited yet.
    Open,
    /// On all of them the register holds the function's result.
    Register(General),
    /// On all of them the result is 0.
    Zero,
    /// The result does not exist yet, or differs.
    Varies,
}

impl Value {
    fn join(self, other: Self) -> Self {
        match (self, other) {
            (Self::Open, value) | (value, Self::Open) => value,
            (one, two) if one == two => one,
            _ => Self::Varies,
        }
    }
}

/// The values before each instruction, and behind it.
pub(super) struct Values {
    pub(super) before: Vec<Value>,
}

impl Values {
    pub(super) fn at(&self, index: Option<usize>) -> Value {
        index.and_then(|index| self.before.get(index)).copied().unwrap_or(Value::Varies)
    }
}

/// Propagates backwards through the graph until nothing changes. `has_out`: a write to memory may be the result.
pub(super) fn analyse(graph: &Graph, has_out: bool) -> Values {
    let mut values = Values { before: vec![Value::Open; graph.nodes.len()] };
    let mut effects = Effects::new();
    let mut changed = true;
    while changed {
        changed = false;
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            let value = before(node, behind(node, &values), has_out, &mut effects);
            let Some(known) = values.before.get_mut(index) else { continue };
            // Values only rise, so it ends.
            let joined = known.join(value);
            changed |= joined != *known;
            *known = joined;
        }
    }
    // What reaches no exit.
    for value in values.before.iter_mut().filter(|value| **value == Value::Open) {
        *value = Value::Varies;
    }
    values
}

/// The value where a node's successors begin. No way on: the function does not return from here, and its result is
/// not known to be one.
fn behind(node: &Node, values: &Values) -> Value {
    match node.exit {
        Some(Exit::Result(register)) => return Value::Register(register),
        Some(Exit::HandedOn) => return Value::Varies,
        None => {}
    }
    node.successors().map(|index| values.at(Some(index))).reduce(Value::join).unwrap_or(Value::Varies)
}

fn before(node: &Node, behind: Value, has_out: bool, effects: &mut Effects) -> Value {
    let instruction = &node.instruction;
    if node.exit.is_some() {
        return behind;
    }
    // A callee may leave the function in another way: it has then allocated nothing.
    if is_call(instruction) {
        return Value::Varies;
    }
    if has_out && matches!(behind, Value::Register(_) | Value::Zero) && effects.writes_memory(instruction) {
        return Value::Varies;
    }
    match behind {
        Value::Register(register) if !effects.writes(instruction, register) => behind,
        Value::Register(register) if is_zeroed(instruction, register) => Value::Zero,
        Value::Register(register) => source(instruction, register).map_or(Value::Varies, Value::Register),
        other => other,
    }
}

/// The register that a register is copied from.
fn source(instruction: &Instruction, register: General) -> Option<General> {
    let is_copy = matches!(instruction.code(), Code::Mov_r64_rm64 | Code::Mov_rm64_r64)
        && instruction.op0_kind() == OpKind::Register
        && instruction.op1_kind() == OpKind::Register;
    (is_copy && General::of(instruction.op0_register()) == Some(register))
        .then(|| General::of(instruction.op1_register()))?
}

/// Whether the whole register becomes 0.
fn is_zeroed(instruction: &Instruction, register: General) -> bool {
    let destination = instruction.op0_register();
    if General::of(destination) != Some(register) || !(destination.is_gpr32() || destination.is_gpr64()) {
        return false;
    }
    match instruction.mnemonic() {
        Mnemonic::Xor | Mnemonic::Sub => {
            instruction.op1_kind() == OpKind::Register && instruction.op1_register() == destination
        }
        Mnemonic::Mov => {
            !matches!(instruction.op1_kind(), OpKind::Register | OpKind::Memory)
                && instruction.immediate(1) == 0
        }
        _ => false,
    }
}
