//! Unwind rows: what a walk needs to know of a call site, in eight bytes.
//!
//! A module's rows are sorted by [`Row::pc`]; the rule of an address is that of the last row whose `pc` is not
//! above it. Rows exist for call sites only (see `memtrace::unwind`), so two kinds of addresses may be looked up:
//!
//! - a return address *minus one*, which is in the call instruction;
//! - an address that a signal interrupted, as it is. That one may be anywhere. Rows around system calls are kept,
//!   where most signals arrive; elsewhere the rule may be another row's, so the frame found through it counts only
//!   if its return address follows a call instruction.

/// How to get from a frame to its caller's, from one `pc` on.
///
/// FP is the frame pointer's register (`rbp`, `x29`), CFA the stack pointer's value in the caller after the call.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// First address the row is for, counted from the table's base.
    pub pc: u32,
    /// Operand of the rule for the CFA; its meaning depends on [`Row::kind`].
    pub cfa: u16,
    /// One of the constants below. It fits into four bits.
    pub kind: u8,
    /// Where the caller's FP is: [`Row::SAME`], [`Row::AT_FP`], [`Row::AT_SP`] or `k`, for the slot at CFA − 8`k`.
    ///
    /// On x86_64 the return address is always in the slot at CFA − 8. On aarch64 the slot of FP is that of the pair
    /// {x29, x30}: the return address is in the slot 8 bytes above it.
    pub fp: u8,
}
const _: () = assert!(size_of::<Row>() == 8);

impl Row {
    /// CFA = FP + 8·`cfa`.
    pub const FP: u8 = 1;
    /// CFA = SP + 8·`cfa`.
    pub const SP: u8 = 2;
    /// CFA = *(FP + `cfa` as i16): functions that align their stack. x86_64 only.
    pub const FP_DEREF: u8 = 3;
    /// CFA = *(SP + 8·lower byte of `cfa`) + 8·upper byte: assembly that keeps the old SP. x86_64 only.
    pub const SP_DEREF: u8 = 4;
    /// The file does not describe this code. A frame pointer may help.
    pub const NO_FDE: u8 = 5;
    /// The outermost frame: the return address is undefined.
    pub const END: u8 = 6;
    /// A signal trampoline: the interrupted registers are in the `ucontext` on the stack. On x86_64 it begins at SP:
    /// FP is at SP + 120, SP at SP + 160, the pc at SP + 168. On aarch64 it begins at SP + 128: FP is at
    /// SP + 544, LR at SP + 552, SP at SP + 560, the pc at SP + 568.
    pub const SIGNAL: u8 = 7;
    /// The rule is none of these.
    pub const UNSUPPORTED: u8 = 8;
    /// As [`Row::FP`], but LR alone was saved, at CFA − 8·`fp`; FP is the caller's. aarch64 only.
    pub const FP_LR: u8 = 9;
    /// As [`Row::SP`], but LR alone was saved, at CFA − 8·`fp`; FP is the caller's. aarch64 only.
    pub const SP_LR: u8 = 10;
    /// CFA = SP + 8·`cfa`, and the return address is still in LR: true at a function's entry and for the frame that
    /// a signal interrupted, for no other. aarch64 only.
    pub const LEAF: u8 = 11;
    /// CFA = SP + 8·(65,536 + `cfa`): frames of half a mebibyte and more. x86_64 only.
    pub const SP_FAR: u8 = 12;

    /// The caller's FP is FP.
    pub const SAME: u8 = 0;
    /// The caller's FP (aarch64: the pair) is at FP.
    pub const AT_FP: u8 = 255;
    /// The pair is at SP. aarch64 only.
    pub const AT_SP: u8 = 254;

    /// The row without its `pc`, in 28 bits: kind, `fp` << 4, `cfa` << 12. Never 0 for a row of a table.
    #[inline(always)]
    #[must_use]
    pub const fn rule(self) -> u32 {
        (self.kind as u32 & 15) | (self.fp as u32) << 4 | (self.cfa as u32) << 12
    }

    /// A rule as [`Row::rule`] packs it, as a row that begins at `pc`.
    #[inline(always)]
    #[must_use]
    pub const fn with_rule(pc: u32, rule: u32) -> Self {
        Self { pc, cfa: (rule >> 12) as u16, kind: (rule & 15) as u8, fp: (rule >> 4) as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::Row;

    #[test]
    fn a_rule_comes_back_and_stays_in_28_bits() {
        let row = Row { pc: 7, cfa: 0x8001, kind: Row::LEAF, fp: Row::AT_FP };
        assert_eq!(Row::with_rule(7, row.rule()), row);
        let largest = Row { pc: 0, cfa: u16::MAX, kind: 15, fp: u8::MAX };
        assert_eq!(largest.rule(), (1 << 28) - 1);
    }
}
