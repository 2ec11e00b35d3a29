//! x86_64: the return address is in the slot below the CFA, always.

use gimli::{RegisterRule, UnwindSection, X86_64};
use memtrace_common::Row;

use super::{Frame, Rule, slots, slots_below};
use crate::unwind::frames::Bytes;

const RETURN_ADDRESS: i64 = -8;
/// What [`Row::SP_FAR`] adds, in slots.
const FAR: u32 = 1 << 16;
/// `ucontext.uc_mcontext.gregs`, from the trampoline's SP.
const CONTEXT_RBP: i64 = 120;
const CONTEXT_RSP: i64 = 160;
const CONTEXT_RIP: i64 = 168;
/// `k` 254 is [`Row::AT_SP`] on aarch64 only.
const MAX_FP: u8 = Row::AT_FP - 1;

pub(super) fn rule<'d, S: UnwindSection<Bytes<'d>>>(frame: &Frame<'_, 'd, S>) -> Rule {
    if frame.cie.return_address_register() != X86_64::RA {
        return Rule::UNSUPPORTED;
    }
    match frame.saved(X86_64::RA) {
        Some(RegisterRule::Undefined) => Rule::END,
        _ if frame.cie.is_signal_trampoline() => signal(frame),
        Some(RegisterRule::Offset(RETURN_ADDRESS)) => {
            let rule = cfa(frame).zip(fp(frame)).map(|((kind, cfa), fp)| Rule { kind, cfa, fp });
            rule.unwrap_or(Rule::UNSUPPORTED)
        }
        _ => Rule::UNSUPPORTED,
    }
}

/// Code other than the kernel's may also claim to be a signal frame.
fn signal<'d, S: UnwindSection<Bytes<'d>>>(frame: &Frame<'_, 'd, S>) -> Rule {
    let context = |register| frame.saved_near(register, X86_64::RSP);
    let is_kernels = frame.cfa_deref() == Some((X86_64::RSP, CONTEXT_RSP, 0))
        && context(X86_64::RBP) == Some(CONTEXT_RBP)
        && context(X86_64::RA) == Some(CONTEXT_RIP);
    if is_kernels { Rule::SIGNAL } else { Rule::UNSUPPORTED }
}

fn cfa<'d, S: UnwindSection<Bytes<'d>>>(frame: &Frame<'_, 'd, S>) -> Option<(u8, u16)> {
    if let Some((register, slots)) = frame.cfa_slots() {
        return match (register, u16::try_from(slots)) {
            (X86_64::RBP, Ok(slots)) => Some((Row::FP, slots)),
            (X86_64::RSP, Ok(slots)) => Some((Row::SP, slots)),
            (X86_64::RSP, Err(_far)) => Some((Row::SP_FAR, u16::try_from(slots - FAR).ok()?)),
            _ => None,
        };
    }
    match frame.cfa_deref()? {
        (X86_64::RBP, offset, 0) => Some((Row::FP_DEREF, i16::try_from(offset).ok()?.cast_unsigned())),
        (X86_64::RSP, offset, add) => {
            let (at, add): (u8, u8) = (slots(offset)?, slots(i64::try_from(add).ok()?)?);
            Some((Row::SP_DEREF, u16::from_le_bytes([at, add])))
        }
        _ => None,
    }
}

fn fp<'d, S: UnwindSection<Bytes<'d>>>(frame: &Frame<'_, 'd, S>) -> Option<u8> {
    match frame.saved(X86_64::RBP) {
        // If no caller expects a value, any will do.
        None | Some(RegisterRule::SameValue | RegisterRule::Undefined) => Some(Row::SAME),
        Some(RegisterRule::Offset(offset)) => slots_below(offset, MAX_FP),
        Some(RegisterRule::Expression(_)) => {
            (frame.saved_near(X86_64::RBP, X86_64::RBP)? == 0).then_some(Row::AT_FP)
        }
        _ => None,
    }
}
