//! Tables of real libraries against gimli's own evaluation of the same descriptions: for every call, both must find
//! the caller's frame at the same place.
//!
//! Both rules are carried out over made-up registers and memory, in which every address holds another value.
#![cfg(target_arch = "x86_64")]
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "says what was compared and what was skipped")]

use std::collections::BTreeMap;

use gimli::{
    BaseAddresses, CfaRule, CieOrFde, EhFrame, EndianSlice, EvaluationResult, LittleEndian, Location,
    Register, RegisterRule, UnwindContext, UnwindExpression, UnwindSection, UnwindTableRow, Value, X86_64,
};
use memtrace_common::Row;

use super::super::Table;
use super::generous;
use crate::elf::Image;

type Bytes<'d> = EndianSlice<'d, LittleEndian>;

const SP: u64 = 0x7ffc_0000_1000;
const FP: u64 = 0x7ffd_0000_2000;

fn memory(address: u64) -> u64 {
    memtrace_common::mix(address ^ 0x5bd1_e995)
}

fn register(number: Register) -> u64 {
    match number {
        X86_64::RSP => SP,
        X86_64::RBP => FP,
        other => memory(u64::from(other.0)),
    }
}

/// A caller's frame: CFA, frame pointer and return address. `None`: there is no caller.
type Caller = Option<(u64, u64, u64)>;

/// What the kernel's side does with a row; `Err` where it can do nothing.
fn by_row(row: Row) -> Result<Caller, u8> {
    let cfa = match row.kind {
        Row::FP => FP + 8 * u64::from(row.cfa),
        Row::SP => SP + 8 * u64::from(row.cfa),
        Row::SP_FAR => SP + 8 * (0x10000 + u64::from(row.cfa)),
        Row::FP_DEREF => memory(FP.wrapping_add_signed(i64::from(row.cfa.cast_signed()))),
        Row::SP_DEREF => memory(SP + 8 * u64::from(row.cfa & 0xff)).wrapping_add(8 * u64::from(row.cfa >> 8)),
        Row::SIGNAL => return Ok(Some((memory(SP + 160), memory(SP + 120), memory(SP + 168)))),
        Row::END => return Ok(None),
        kind => return Err(kind),
    };
    let fp = match row.fp {
        Row::SAME => FP,
        Row::AT_FP => memory(FP),
        slots => memory(cfa.wrapping_sub(8 * u64::from(slots))),
    };
    Ok(Some((cfa, fp, memory(cfa.wrapping_sub(8)))))
}

/// What gimli says.
struct Oracle<'d> {
    section: EhFrame<Bytes<'d>>,
    encoding: gimli::Encoding,
}

impl Oracle<'_> {
    fn evaluate(&self, expression: UnwindExpression<usize>, start: Option<u64>) -> u64 {
        let expression = expression.get(&self.section).unwrap();
        let mut evaluation = expression.evaluation(self.encoding);
        if let Some(start) = start {
            evaluation.set_initial_value(start);
        }
        let mut state = evaluation.evaluate().unwrap();
        loop {
            state = match state {
                EvaluationResult::Complete => break,
                EvaluationResult::RequiresRegister { register: number, .. } => {
                    evaluation.resume_with_register(Value::Generic(register(number))).unwrap()
                }
                EvaluationResult::RequiresMemory { address, .. } => {
                    evaluation.resume_with_memory(Value::Generic(memory(address))).unwrap()
                }
                other => panic!("{other:?}"),
            };
        }
        match evaluation.result()[0].location {
            Location::Address { address } => address,
            ref other => panic!("{other:?}"),
        }
    }

    fn caller(&self, row: &UnwindTableRow<usize>) -> Caller {
        let cfa = match *row.cfa() {
            CfaRule::RegisterAndOffset { register: base, offset } => {
                register(base).wrapping_add_signed(offset)
            }
            CfaRule::Expression(expression) => self.evaluate(expression, None),
        };
        let value = |number| match row.register(number) {
            None | Some(RegisterRule::SameValue) => register(number),
            Some(RegisterRule::Undefined) => 0,
            Some(RegisterRule::Offset(offset)) => memory(cfa.wrapping_add_signed(offset)),
            Some(RegisterRule::ValOffset(offset)) => cfa.wrapping_add_signed(offset),
            Some(RegisterRule::Register(other)) => register(other),
            Some(RegisterRule::Expression(expression)) => memory(self.evaluate(expression, Some(cfa))),
            Some(RegisterRule::ValExpression(expression)) => self.evaluate(expression, Some(cfa)),
            other => panic!("{other:?}"),
        };
        let ends = row.register(X86_64::RA) == Some(RegisterRule::Undefined);
        (!ends).then(|| (cfa, value(X86_64::RBP), value(X86_64::RA)))
    }
}

/// Places of calls in these bytes, each as the offset of a byte that a return address minus one can be at.
fn calls(code: &[u8]) -> impl Iterator<Item = usize> {
    (0..code.len()).filter_map(|at| match code[at..] {
        [0xe8, _, _, _, _, ..] => Some(at + 4),
        [0xff, modrm, ..] if modrm & 0x38 == 0x10 => Some(at + 1),
        _ => None,
    })
}

/// Compares every `stride`th entry. Returns how many calls there are by kind of row.
fn compare(path: &str, stride: usize) -> Option<BTreeMap<u8, usize>> {
    let image = Image::open(path.as_ref()).ok()?;
    let file = std::fs::read(path).unwrap();
    let table = Table::build(&image, generous()).unwrap();
    let frames = image.section_data(".eh_frame", 1 << 27).unwrap().unwrap();
    let section = EhFrame::new(frames.bytes(), LittleEndian);
    let bases = BaseAddresses::default().set_eh_frame(frames.address);
    let (mut context, mut counts, mut ranges) = (UnwindContext::new(), BTreeMap::new(), Vec::new());
    let code = |begin: u64, end: u64| {
        let offset = image.vaddr_to_offset(begin).map(|offset| offset as usize);
        offset.map_or(&[][..], |offset| &file[offset..offset + (end - begin) as usize])
    };
    for (index, entry) in section.entries(&bases).enumerate() {
        let CieOrFde::Fde(partial) = entry.unwrap() else { continue };
        let fde = partial.parse(EhFrame::cie_from_offset).unwrap();
        ranges.push((fde.initial_address(), fde.end_address()));
        if index % stride != 0 {
            continue;
        }
        let oracle = Oracle { section, encoding: fde.cie().encoding() };
        // The one exception: glibc's start of coroutines, which its description does not call outermost.
        let is_start = code(fde.initial_address(), fde.end_address()).starts_with(&[0x48, 0x89, 0xdc]);
        let mut rows = fde.rows(&section, &bases, &mut context).unwrap();
        while let Some(row) = rows.next_row().unwrap() {
            let (begin, end) = (row.start_address(), row.end_address());
            let expected = if is_start { None } else { oracle.caller(row) };
            let signal = fde.is_signal_trampoline();
            let places = if signal {
                (0..code(begin, end).len()).collect()
            } else {
                calls(code(begin, end)).collect()
            };
            let places: Vec<usize> = places;
            for place in places {
                let row = table.lookup(begin + place as u64).unwrap();
                *counts.entry(row.kind).or_default() += 1;
                match by_row(row) {
                    Ok(caller) => assert_eq!(caller, expected, "{path} {:#x}: {row:?}", begin + place as u64),
                    Err(kind) => assert_eq!(kind, Row::UNSUPPORTED, "{path} {:#x}", begin + place as u64),
                }
            }
        }
    }
    ranges.sort_unstable();
    for pair in ranges.windows(2) {
        let gap = (pair[0].1, pair[1].0.max(pair[0].1));
        for place in calls(code(gap.0, gap.1)) {
            let row = table.lookup(gap.0 + place as u64).unwrap();
            let address = gap.0 + place as u64;
            let first_frame = (image.entry()..image.entry() + 256).contains(&address);
            assert_eq!(row.kind, if first_frame { Row::END } else { Row::NO_FDE }, "{path} {address:#x}");
        }
    }
    Some(counts)
}

/// Compares a library where the machine has it; of its calls at most one in `one_in` may be unsupported.
fn check(path: &str, stride: usize, one_in: usize) {
    let Some(counts) = compare(path, stride) else {
        eprintln!("skipped: no {path}");
        return;
    };
    let unsupported = counts.get(&Row::UNSUPPORTED).copied().unwrap_or(0);
    let all: usize = counts.values().sum();
    println!("{path}: {all} calls by kind of row {counts:?}");
    assert!(all > 0 && unsupported * one_in <= all, "{path}: {unsupported} of {all} calls are unsupported");
}

#[test]
fn libc() {
    let path = "/lib/x86_64-linux-gnu/libc.so.6";
    check(path, 1, 1000);
    let counts = compare(path, 1).unwrap_or_default();
    assert!(counts.is_empty() || (counts.contains_key(&Row::END) && counts.contains_key(&Row::SIGNAL)));
}

#[test]
fn libraries_that_programs_load() {
    for name in ["libm.so.6", "libstdc++.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libz.so.1"] {
        check(&format!("/lib/x86_64-linux-gnu/{name}"), 1, 50);
    }
}

#[test]
fn libcrypto() {
    check("/lib/x86_64-linux-gnu/libcrypto.so.3", 1, 100);
}

#[test]
fn large_files() {
    check("/usr/bin/node", 16, 100);
    for version in ["-14.so.1", "-15.so.1", ".so.22.1"] {
        check(&format!("/usr/lib/x86_64-linux-gnu/libLLVM{version}"), 32, 1000);
    }
}
