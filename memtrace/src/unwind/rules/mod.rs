//! From a row of call frame information to ours: the part common to all machines.

mod aarch64;
mod x86_64;

use gimli::{
    CfaRule, CommonInformationEntry, Operation, Register, RegisterRule, UnwindExpression, UnwindSection,
    UnwindTableRow,
};
use memtrace_common::Row;

use super::frames::Bytes;
use crate::elf::Machine;

/// Bytes of a stack slot.
const SLOT: i64 = 8;
/// Operations of the longest expression that any rule understands, plus one.
const MAX_OPERATIONS: usize = 4;

/// A [`Row`] without its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) kind: u8,
    pub(super) cfa: u16,
    pub(super) fp: u8,
}

impl Rule {
    pub(super) const NO_FDE: Self = Self::plain(Row::NO_FDE);
    pub(super) const UNSUPPORTED: Self = Self::plain(Row::UNSUPPORTED);
    pub(super) const END: Self = Self::plain(Row::END);
    const SIGNAL: Self = Self::plain(Row::SIGNAL);

    const fn plain(kind: u8) -> Self {
        Self { kind, cfa: 0, fp: Row::SAME }
    }

    /// Whether code under this rule can be returned to without having made a call.
    pub(super) fn is_entered_by_return(self) -> bool {
        self == Self::SIGNAL || self == Self::END
    }

    /// The row that begins at `pc`.
    pub(super) fn at(self, pc: u32) -> Row {
        Row { pc, cfa: self.cfa, kind: self.kind, fp: self.fp }
    }
}

/// A row of call frame information with the context to read it.
pub(super) struct Frame<'f, 'd, S> {
    pub(super) section: &'f S,
    pub(super) cie: &'f CommonInformationEntry<Bytes<'d>>,
    pub(super) row: &'f UnwindTableRow<usize>,
}

impl<'d, S: UnwindSection<Bytes<'d>>> Frame<'_, 'd, S> {
    /// Our rule for it.
    pub(super) fn rule(&self, machine: Machine) -> Rule {
        match machine {
            Machine::X86_64 => x86_64::rule(self),
            Machine::Aarch64 => aarch64::rule(self),
        }
    }

    fn saved(&self, register: Register) -> Option<RegisterRule<usize>> {
        self.row.register(register)
    }

    /// The operations of an expression; empty if it is longer than any that a rule understands, or malformed.
    fn operations(&self, expression: UnwindExpression<usize>) -> Vec<Operation<Bytes<'d>>> {
        let parse = || {
            let mut operations = expression.get(self.section)?.operations(self.cie.encoding());
            let mut found = Vec::new();
            while let Some(operation) = operations.next()? {
                found.push(operation);
                if found.len() >= MAX_OPERATIONS {
                    return Ok(Vec::new());
                }
            }
            Ok::<_, gimli::Error>(found)
        };
        parse().unwrap_or_default()
    }

    /// The offset, if a register's value is saved at a constant distance from that of another register.
    fn saved_near(&self, register: Register, base: Register) -> Option<i64> {
        let Some(RegisterRule::Expression(expression)) = self.saved(register) else { return None };
        match self.operations(expression)[..] {
            [Operation::RegisterOffset { register, offset, .. }] if register == base => Some(offset),
            _ => None,
        }
    }

    /// CFA = *(register + offset) + constant.
    fn cfa_deref(&self) -> Option<(Register, i64, u64)> {
        let CfaRule::Expression(expression) = *self.row.cfa() else { return None };
        match self.operations(expression)[..] {
            [
                Operation::RegisterOffset { register, offset, .. },
                Operation::Deref { size: 8, space: false, .. },
            ] => Some((register, offset, 0)),
            [
                Operation::RegisterOffset { register, offset, .. },
                Operation::Deref { size: 8, space: false, .. },
                Operation::PlusConstant { value },
            ] => Some((register, offset, value)),
            _ => None,
        }
    }

    /// CFA = register + 8 · slots.
    fn cfa_slots(&self) -> Option<(Register, u32)> {
        let CfaRule::RegisterAndOffset { register, offset } = *self.row.cfa() else { return None };
        Some((register, slots(offset)?))
    }
}

/// A distance up the stack, in slots.
fn slots<T: TryFrom<i64>>(offset: i64) -> Option<T> {
    (offset % SLOT == 0).then(|| T::try_from(offset / SLOT).ok())?
}

/// A distance down the stack, in slots, 1 to `max`.
fn slots_below(offset: i64, max: u8) -> Option<u8> {
    slots(offset.checked_neg()?).filter(|slots| (1..=max).contains(slots))
}
