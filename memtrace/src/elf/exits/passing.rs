//! Whether every way through a function leads through one of some others: it is a wrapper of these.

use std::ops::Range;

use iced_x86::{
    ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register,
};
use rustc_hash::FxHashSet;

use super::{
    Code, FileCode, Function, MAX_INSTRUCTIONS, MAX_PARTS, Tables,
    targets::{self, Target},
};
use crate::elf::{Image, Machine};

/// How many functions deep a wrapper's own helpers are followed.
const DEPTH: usize = 3;

/// Functions to look for.
pub struct Wanted<'a> {
    /// Of the same file, by ELF virtual address.
    pub own: &'a dyn Fn(u64) -> bool,
    /// Of other files, by name.
    pub foreign: &'a dyn Fn(&str) -> bool,
}

/// Whether whoever calls a function and is returned to has called one of the `wanted` functions, or the function ended in
/// one: `false` where that cannot be determined. Code that catches exceptions counts as never reached; if the function
/// `frees`, so does what follows if its argument is null.
#[must_use]
pub fn passes(
    image: &Image,
    tables: &Tables<'_>,
    range: Range<u64>,
    frees: bool,
    wanted: &Wanted<'_>,
) -> bool {
    search(image, tables, range, frees, wanted).0
}

/// Whether a function may call one of the `wanted` functions or end in one, directly or through functions of its own.
#[must_use]
pub fn meets(image: &Image, tables: &Tables<'_>, range: Range<u64>, wanted: &Wanted<'_>) -> bool {
    search(image, tables, range, false, wanted).1
}

fn search(
    image: &Image,
    tables: &Tables<'_>,
    range: Range<u64>,
    frees: bool,
    wanted: &Wanted<'_>,
) -> (bool, bool) {
    if image.machine() != Machine::X86_64 {
        return (false, false);
    }
    let start = range.start;
    let function = Function { range, entry_site: start, has_out: false, is_known: true };
    let code = FileCode { image, tables, function: &function };
    let mut search =
        Search { code: &code, wanted, frees, left: MAX_INSTRUCTIONS, parts: MAX_PARTS, met: false };
    let passes = search.passes(start, DEPTH);
    (passes, search.met)
}

struct Search<'a> {
    code: &'a dyn Code,
    wanted: &'a Wanted<'a>,
    /// Instructions that may still be looked at.
    left: usize,
    /// Functions that may still be looked at.
    parts: usize,
    frees: bool,
    /// Whether a wanted function was met.
    met: bool,
}

/// A function's code.
struct Part {
    range: Range<u64>,
    bytes: Vec<u8>,
}

impl Part {
    fn decode(&self, address: u64) -> Option<Instruction> {
        let into = usize::try_from(address.checked_sub(self.range.start)?).ok()?;
        let bytes = self.bytes.get(into..)?;
        let instruction = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
        (!instruction.is_invalid()).then_some(instruction)
    }
}

impl Search<'_> {
    /// Whether every way from `start` to a return passes.
    fn passes(&mut self, start: u64, depth: usize) -> bool {
        let Some(part) = self.part(start) else { return false };
        let mut all = true;
        let mut seen = FxHashSet::default();
        // Addresses, and whether the argument was just compared with null.
        let mut pending = vec![(start, false)];
        while let Some((address, compared)) = pending.pop() {
            if !seen.insert(address) {
                continue;
            }
            let Some(left) = self.left.checked_sub(1) else { return false };
            self.left = left;
            let Some(instruction) = part.decode(address) else { return false };
            let next = instruction.next_ip();
            match instruction.flow_control() {
                FlowControl::Next => pending.push((next, self.frees && is_null_check(&instruction))),
                FlowControl::Call | FlowControl::IndirectCall => {
                    // Code ends after a call that does not return.
                    if part.range.contains(&next) && !self.is_through(&part, &instruction, depth) {
                        pending.push((next, false));
                    }
                }
                FlowControl::ConditionalBranch => {
                    let condition = instruction.condition_code();
                    if !compared || condition != ConditionCode::ne {
                        pending.push((next, false));
                    }
                    if compared && condition == ConditionCode::e {
                        continue;
                    }
                    let to = instruction.near_branch_target();
                    if part.range.contains(&to) {
                        pending.push((to, false));
                    } else {
                        all &= self.is_through(&part, &instruction, depth);
                    }
                }
                FlowControl::UnconditionalBranch | FlowControl::IndirectBranch => {
                    match targets::of(self.code, &instruction, &|address| part.range.contains(&address)) {
                        Target::Address(to) if part.range.contains(&to) && to != part.range.start => {
                            pending.push((to, false));
                        }
                        _ => all &= self.is_through(&part, &instruction, depth),
                    }
                }
                FlowControl::Exception => {}
                FlowControl::Return | FlowControl::Interrupt | FlowControl::XbeginXabortXend => all = false,
            }
        }
        all
    }

    fn part(&mut self, address: u64) -> Option<Part> {
        self.parts = self.parts.checked_sub(1)?;
        let (range, bytes) = self.code.part(address)?;
        Some(Part { range, bytes })
    }

    /// Whether a call, or a jump out of the function, leads to a wanted function or to one that passes, or does not come back.
    fn is_through(&mut self, part: &Part, call: &Instruction, depth: usize) -> bool {
        let target = targets::of(self.code, call, &|address| part.range.contains(&address));
        let is_wanted = match &target {
            Target::Foreign(name) => (self.wanted.foreign)(name),
            Target::Address(to) => (self.wanted.own)(*to),
            Target::Unknown => false,
        };
        self.met |= is_wanted;
        is_wanted
            || match target {
                Target::Foreign(name) => targets::never_returns(&name),
                Target::Address(to) => depth > 0 && self.passes(to, depth - 1),
                Target::Unknown => false,
            }
    }
}

/// `test %rdi,%rdi`
fn is_null_check(instruction: &Instruction) -> bool {
    let is_argument = |operand| {
        instruction.op_kind(operand) == OpKind::Register && instruction.op_register(operand) == Register::RDI
    };
    instruction.mnemonic() == Mnemonic::Test && is_argument(0) && is_argument(1)
}
