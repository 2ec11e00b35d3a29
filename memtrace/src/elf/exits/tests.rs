use std::{collections::HashMap, ops::Range};

use super::{Code, Function, Incomplete, Slot, find_in};
use crate::model::{
    ExitFrame::{self, FramePointer, StackPointer},
    ExitResult::{self, Register, Zero},
    ExitSite,
};

/// Where the function is.
const ENTRY: u64 = 0x1000;
/// Where another part of it, or another function, is.
const OTHER: u64 = 0x2000;
/// An entry of the PLT, and its slot.
const STUB: u64 = 0x3000;
const SLOT: u64 = 0x4000;

#[derive(Default)]
struct Fake {
    parts: HashMap<u64, Vec<u8>>,
    slot: Option<Slot>,
    catches: bool,
}

impl Code for Fake {
    fn part(&self, address: u64) -> Option<(Range<u64>, Vec<u8>)> {
        self.parts.iter().find_map(|(start, code)| {
            let range = *start..start + code.len() as u64;
            range.contains(&address).then(|| (range, code.clone()))
        })
    }

    fn catches(&self, _: u64) -> bool {
        self.catches
    }

    fn stub(&self, address: u64) -> Option<Vec<u8>> {
        // jmp *SLOT(%rip)
        let distance = (SLOT - STUB - 6) as u32;
        let jump = [&[0xff, 0x25][..], &distance.to_le_bytes()].concat();
        if address == STUB { Some(jump) } else { self.part(address).map(|(_, code)| code) }
    }

    fn slot(&self, address: u64) -> Option<Slot> {
        self.slot.clone().filter(|_| address == SLOT)
    }

    fn offset(&self, address: u64) -> Option<u64> {
        Some(address - ENTRY)
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

fn function(length: usize) -> Function {
    Function { range: ENTRY..ENTRY + length as u64, entry_site: ENTRY, has_out: false, is_known: false }
}

impl Fake {
    fn new(hex: &str) -> Self {
        Self { parts: HashMap::from([(ENTRY, bytes(hex))]), slot: None, catches: false }
    }

    fn with(mut self, other: &str) -> Self {
        self.parts.insert(OTHER, bytes(other));
        self
    }

    fn find(&self) -> Result<Vec<ExitSite>, Incomplete> {
        find_in(self, &function(self.parts[&ENTRY].len()), &|_| false)
    }
}

/// A jump or call from `at` in the function.
fn to(opcode: &str, at: u64, target: u64) -> String {
    let distance = (target as i64 - (ENTRY + at) as i64 - 5) as i32;
    let bytes = distance.to_le_bytes().map(|byte| format!("{byte:02x}")).join(" ");
    format!("{opcode} {bytes}")
}

fn site(
    offset: u64,
    emulated: bool,
    frame: ExitFrame,
    result: ExitResult,
    condition: Option<u8>,
) -> ExitSite {
    ExitSite { offset, emulated, frame, result, condition }
}

/// push %rbx; mov %rdi,%rbx; call; mov %rax,%rbx; test %rbx,%rbx; je; nop; nop; mov %rbx,%rax; pop %rbx; ret
#[test]
fn the_site_is_behind_the_last_call_in_the_register_of_that_moment() {
    let code = Fake::new("53 48 89 fb e8 00 00 00 00 48 89 c3 48 85 db 74 02 90 90 48 89 d8 5b c3");
    assert_eq!(code.find(), Ok(vec![site(0xf, true, StackPointer(2), Register(3), None)]));
}

#[test]
fn without_an_emulated_instruction_it_is_the_return() {
    // mov %rdi,%rax; ret
    let code = Fake::new("48 89 f8 c3");
    assert_eq!(code.find(), Ok(vec![site(3, false, StackPointer(1), Register(0), None)]));
    // call; ret
    let code = Fake::new("55 e8 00 00 00 00 5d c3");
    assert_eq!(code.find(), Ok(vec![site(7, false, StackPointer(1), Register(0), None)]));
}

/// mov (%rdi),%rax; test %rax,%rax; je; ret; xor %eax,%eax; ret
#[test]
fn a_conditional_jump_sees_the_way_on_which_the_result_is_there() {
    let code = Fake::new("48 8b 07 48 85 c0 74 01 c3 31 c0 c3");
    let found = vec![
        site(6, true, StackPointer(1), Register(0), Some(5)),
        site(0xb, false, StackPointer(1), Register(0), None),
    ];
    let mut sites = code.find().unwrap();
    sites.sort();
    assert_eq!(sites, found);
}

/// push %rbp; nop; mov %rax,(%rdi); pop %rbp; xor %eax,%eax; ret
#[test]
fn a_result_in_memory_is_there_behind_the_last_write() {
    let code = Fake::new("55 90 48 89 07 5d 31 c0 c3");
    assert_eq!(code.find(), Ok(vec![site(1, true, StackPointer(2), Zero, None)]));
    let function = Function { has_out: true, ..function(9) };
    let found = find_in(&code, &function, &|_| false);
    assert_eq!(found, Ok(vec![site(8, false, StackPointer(1), Register(0), None)]));
}

/// push %rbp; mov %rsp,%rbp; and $-16,%rsp; nop; leave; ret
#[test]
fn the_frame_is_found_by_the_frame_pointer_where_the_stack_pointer_is_aligned() {
    let code = Fake::new("55 48 89 e5 48 83 e4 f0 90 c9 c3");
    assert_eq!(code.find(), Ok(vec![site(8, true, FramePointer(2), Register(0), None)]));
}

/// sub $0x18,%rsp; lea 8(%rsp),%rsp; nop; add $0x10,%rsp; ret
#[test]
fn the_stack_pointer_is_followed_through_arithmetic() {
    let code = Fake::new("48 83 ec 18 48 8d 64 24 08 90 48 83 c4 10 c3");
    assert_eq!(code.find(), Ok(vec![site(9, true, StackPointer(3), Register(0), None)]));
}

#[test]
fn the_entry_site_is_no_exit() {
    // nop; ret
    let code = Fake::new("90 c3");
    assert_eq!(code.find(), Ok(vec![site(1, false, StackPointer(1), Register(0), None)]));
    assert_eq!(Fake::new("c3").find(), Err(Incomplete::Code));
}

#[test]
fn where_the_stack_is_not_understood_there_are_no_sites() {
    // push %rbx; ret
    assert_eq!(Fake::new("53 c3").find(), Err(Incomplete::Stack));
    // and $-16,%rsp; ret
    assert_eq!(Fake::new("48 83 e4 f0 c3").find(), Err(Incomplete::Stack));
    // je over a push
    assert_eq!(Fake::new("74 01 53 90 c3").find(), Err(Incomplete::Stack));
}

#[test]
fn computed_jumps_are_not_understood() {
    // jmp *%rax: a table, or a call of what a pointer says
    assert_eq!(Fake::new("ff e0").find(), Err(Incomplete::Jump));
    assert_eq!(Fake::new("53 ff e0").find(), Err(Incomplete::Jump));
    // … through the PLT, with nothing known of the slot
    let code = Fake::new(&format!("53 5b {}", to("e9", 2, STUB)));
    assert_eq!(code.find(), Err(Incomplete::Jump));
}

#[test]
fn what_catches_exceptions_is_not_understood() {
    let code = Fake { catches: true, ..Fake::new("90 90 c3") };
    assert_eq!(code.find(), Err(Incomplete::Handlers));
}

#[test]
fn what_a_function_jumps_to_has_its_exits() {
    // push; pop; jmp: the other function is `mov (%rdi),%rax; ret`
    let code = Fake::new(&format!("53 5b {}", to("e9", 2, OTHER))).with("48 8b 07 c3");
    let exit = site(OTHER + 3 - ENTRY, false, StackPointer(1), Register(0), None);
    assert_eq!(code.find(), Ok(vec![exit]));
    // A part that was split off goes on with the stack as it is: nop; pop %rbx; ret
    let code = Fake::new(&format!("53 {}", to("e9", 1, OTHER))).with("90 5b c3");
    let exit = site(1, true, StackPointer(2), Register(0), None);
    assert_eq!(code.find(), Ok(vec![exit]));
    // Probed itself.
    let code = Fake::new(&format!("53 5b {}", to("e9", 2, OTHER))).with("c3");
    assert_eq!(find_in(&code, &function(7), &|address| address == OTHER), Ok(vec![]));
    // Its end is unknown.
    let code = Fake::new(&format!("53 5b {}", to("e9", 2, 0x9000)));
    assert_eq!(code.find(), Err(Incomplete::Bounds));
}

#[test]
fn the_plt_is_seen_through() {
    let jump = format!("53 5b {}", to("e9", 2, STUB));
    let with = |slot| Fake { slot: Some(slot), ..Fake::new(&jump).with("48 8b 07 c3") }.find();
    assert_eq!(
        with(Slot::Own(OTHER)),
        Ok(vec![site(OTHER + 3 - ENTRY, false, StackPointer(1), Register(0), None)])
    );
    // It returns its first argument: the jump is the site.
    let memset = with(Slot::Foreign("memset".to_owned()));
    assert_eq!(memset, Ok(vec![site(2, true, StackPointer(1), Register(7), None)]));
    assert_eq!(with(Slot::Foreign("realloc".to_owned())), Err(Incomplete::Foreign));
}

/// push; test; je; ret behind a call that throws, with bytes behind it that are no code.
#[test]
fn nothing_is_behind_a_function_that_does_not_return() {
    let code = format!("53 48 85 ff 74 06 {} 06 5b c3", to("e8", 6, STUB));
    let mut code = Fake::new(&code);
    code.slot = Some(Slot::Foreign("__cxa_throw".to_owned()));
    let found = code.find().unwrap();
    assert_eq!(found, [site(4, true, StackPointer(2), Register(0), Some(4))]);
    code.slot = Some(Slot::Foreign("sleep".to_owned()));
    assert_eq!(code.find(), Err(Incomplete::Code));
    // By being the last: ud2 is another end.
    assert_eq!(Fake::new("e8 00 00 00 00").find(), Ok(vec![]));
    assert_eq!(Fake::new("0f 0b").find(), Ok(vec![]));
}

/// A site on each way, none twice: dec %edi; jne back; ret
#[test]
fn loops_end() {
    let code = Fake::new("ff cf 75 fc c3");
    assert_eq!(code.find(), Ok(vec![site(2, true, StackPointer(1), Register(0), None)]));
    // jmp to itself: no way out
    assert_eq!(Fake::new("90 eb fe").find(), Ok(vec![]));
}

#[test]
fn any_bytes_give_sites_within_them_or_none() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut understood = 0;
    for round in 0..40_000_u64 {
        let mut code: Vec<u8> = (0..1 + round % 24)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        code.push(0xc3);
        let length = code.len();
        let fake = Fake { parts: HashMap::from([(ENTRY, code)]), slot: None, catches: false };
        for has_out in [false, true] {
            let found = find_in(&fake, &Function { has_out, ..function(length) }, &|_| false);
            understood += usize::from(found.is_ok());
            assert!(found.unwrap_or_default().iter().all(|site| (site.offset as usize) < length));
        }
    }
    assert!(understood > 1000, "{understood}");
}
