//! aarch64: the return address is in LR until the function saves it, mostly together with FP.
//!
//! Return addresses may be signed; a walk removes the signature, so whether they are does not matter here.

use gimli::{AArch64, Register, RegisterRule, UnwindSection};
use memtrace_common::Row;

use super::{Frame, Rule, SLOT, slots_below};
use crate::unwind::frames::Bytes;

const LR: Register = AArch64::X30;
const FP: Register = AArch64::X29;
/// Slots below the CFA that a `u8` can express besides the two special values.
const MAX_PAIR: u8 = Row::AT_SP - 1;

pub(super) fn rule<'d, S: UnwindSection<Bytes<'d>>>(frame: &Frame<'_, 'd, S>) -> Rule {
    if frame.cie.return_address_register() != LR {
        return Rule::UNSUPPORTED;
    }
    match frame.saved(LR) {
        Some(RegisterRule::Undefined) => Rule::END,
        // The kernel's vDSO describes the frame record that it makes, not the context.
        _ if frame.cie.is_signal_trampoline() => Rule::SIGNAL,
        lr => ordinary(frame, lr).unwrap_or(Rule::UNSUPPORTED),
    }
}

fn ordinary<'d, S: UnwindSection<Bytes<'d>>>(
    frame: &Frame<'_, 'd, S>,
    lr: Option<RegisterRule<usize>>,
) -> Option<Rule> {
    let (register, cfa) = frame.cfa_slots()?;
    let cfa = u16::try_from(cfa).ok()?;
    let on_fp = match register {
        FP => true,
        AArch64::SP => false,
        _ => return None,
    };
    let (pair_kind, lr_kind) = if on_fp { (Row::FP, Row::FP_LR) } else { (Row::SP, Row::SP_LR) };
    match (lr, frame.saved(FP)) {
        (Some(RegisterRule::Offset(lr)), Some(RegisterRule::Offset(fp)))
            if fp.checked_add(SLOT) == Some(lr) =>
        {
            let at_base = fp == -SLOT * i64::from(cfa);
            let far = at_base.then_some(if on_fp { Row::AT_FP } else { Row::AT_SP });
            Some(Rule { kind: pair_kind, cfa, fp: slots_below(fp, MAX_PAIR).or(far)? })
        }
        (Some(RegisterRule::Offset(lr)), None | Some(RegisterRule::SameValue)) => {
            Some(Rule { kind: lr_kind, cfa, fp: slots_below(lr, u8::MAX)? })
        }
        (None | Some(RegisterRule::SameValue), None | Some(RegisterRule::SameValue)) if !on_fp => {
            Some(Rule { kind: Row::LEAF, cfa, fp: Row::SAME })
        }
        _ => None,
    }
}
