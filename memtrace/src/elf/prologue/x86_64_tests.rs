use super::choose;
use crate::model::{ArgLayout, Mapping, Role, Site};

const MALLOC: Role =
    Role::Allocate(ArgLayout { size: 0, count: None, old: None, out: None, delegates: false });
const CALLOC: Role =
    Role::Allocate(ArgLayout { size: 1, count: Some(0), old: None, out: None, delegates: false });
const REALLOC: Role =
    Role::Allocate(ArgLayout { size: 1, count: None, old: Some(0), out: None, delegates: false });
const POSIX_MEMALIGN: Role =
    Role::Allocate(ArgLayout { size: 2, count: None, old: None, out: Some(0), delegates: false });
const MEMALIGN: Role =
    Role::Allocate(ArgLayout { size: 1, count: None, old: None, out: None, delegates: false });

fn bytes(hex: &str) -> Vec<u8> {
    hex.split_ascii_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

#[track_caller]
fn site_is(hex: &str, role: Role, delta: u64, emulated: bool) {
    let code = bytes(hex);
    assert_eq!(choose(&code, code.len() as u64, role), Site { delta, emulated });
}

/// glibc 2.36-9+deb12, each up to the end of an instruction.
#[test]
fn glibc() {
    site_is("41 54 55 53 48 89 fb 48 83 ec 10 80 3d 46 1b 14 00 00 0f 84 f8 01 00 00", MALLOC, 0, true);
    site_is("48 85 ff 0f 84 bf 00 00 00 55 48 8d 77 f0 53 48 83 ec 18", Role::Free, 9, true);
    site_is("41 55 48 89 f8 41 54 55 53 48 83 ec 18 48 f7 e6 48 89 c3", CALLOC, 0, true);
    site_is("41 57 41 56 41 55 41 54 55 48 89 f5 53 48 89 fb 48 83 ec 28", REALLOC, 0, true);
    site_is("80 3d 01 02 14 00 00 41 54 49 89 d4 55 48 89 fd 53 48 89 f3 74 5a", POSIX_MEMALIGN, 7, true);
    let memalign = "80 3d 71 0e 14 00 00 74 07 e9 32 f6 ff ff 66 90 48 83 ec 18 48 89 74 24 08 48 89 3c 24 e8 be bc \
                    ff ff 48 8b 74 24 08 48 8b 3c 24 48 83 c4 18 e9 0c f6 ff ff";
    site_is(memalign, MEMALIGN, 7, true);
    let valloc = "80 3d 31 0e 14 00 00 53 48 89 fb 74 1b 48 8b 05 34 98 13 00 48 89 de 5b 48 8b 78 18 e9 df f5 ff ff \
                  0f 1f 80 00 00 00 00 e8 73 bc ff ff eb de";
    site_is(valloc, MALLOC, 7, true);
}

/// jemalloc 5.3.0.
#[test]
fn jemalloc() {
    site_is("48 81 ff 00 10 00 00 0f 87 93 00 00 00 48 8d 15 5c 7f 2c 00", MALLOC, 7, true);
    let free = "48 89 f8 48 8b 15 0e 53 0a 00 48 89 f9 48 c1 e8 1a 48 81 e1 00 00 00 c0 25 f0 00 00 00 \
                64 48 03 04 25 00 00 00 00 48 01 d0 48 3b 88 b0 01 00 00 0f 85 8a 00 00 00";
    site_is(free, Role::Free, 0x30, true);
}

#[test]
fn passes_over_endbr64() {
    site_is("f3 0f 1e fa 55 48 89 e5 c3", MALLOC, 4, true);
    site_is("f3 0f 1e fa 48 85 ff 74 05 41 54 5b c3", Role::Free, 9, true);
    // endbr64; jmp somewhere
    site_is("f3 0f 1e fa e9 00 10 00 00", MALLOC, 4, true);
}

#[test]
fn a_return_probe_must_see_the_stack_pointer_of_the_entry() {
    // sub $8,%rsp; push %rbx
    site_is("48 83 ec 08 53 c3", MALLOC, 0, false);
    site_is("48 83 ec 08 53 c3", Role::Free, 4, true);
    // pop %rax; push %rbx
    site_is("58 53 c3", MALLOC, 0, false);
    // and $-16,%rsp; push %rbx
    site_is("48 83 e4 f0 53 c3", MALLOC, 0, false);
}

#[test]
fn arguments_that_are_needed_must_be_intact() {
    // xor %edi,%edi; push %rbx
    site_is("31 ff 53 c3", MALLOC, 0, false);
    site_is("31 ff 53 c3", Role::Free, 0, false);
    site_is("31 ff 53 c3", MEMALIGN, 2, true);
    // xor %esi,%esi; push %rbx
    site_is("31 f6 53 c3", MALLOC, 2, true);
    site_is("31 f6 53 c3", CALLOC, 0, false);
    site_is("31 f6 53 c3", REALLOC, 0, false);
    // mov %dl,%dil; push %rbx: a part of the register
    site_is("40 88 d7 53 c3", MALLOC, 0, false);
    // cmove %rax,%rdi; push %rbx
    site_is("48 0f 44 f8 53 c3", MALLOC, 0, false);
    // rep stosb; push %rbx: by no operand
    site_is("f3 aa 53 c3", MALLOC, 0, false);
    // mov %edx,%eax; mul %rsi writes %rdx; push %rbx
    site_is("89 d0 48 f7 e6 53 c3", POSIX_MEMALIGN, 0, false);
    site_is("89 d0 48 f7 e6 53 c3", CALLOC, 5, true);
}

#[test]
fn a_jump_may_be_the_site_but_none_may_come_before_it() {
    // test %rdi,%rdi; je +5; push %rbx: an allocation of 0 counts too
    site_is("48 85 ff 74 05 53 5b c3", MALLOC, 3, true);
    // cmp %rsi,%rdi; ja; push
    site_is("48 39 f7 77 05 53 5b c3", Role::Free, 3, true);
    // call rel32, jmp rel8
    site_is("89 f0 e8 00 10 00 00 c3", MALLOC, 2, true);
    site_is("89 f0 eb 7f 53 c3", MALLOC, 2, true);
    // jmp *%rax; push: nothing is reached behind it
    site_is("ff e0 53 c3", MALLOC, 0, false);
    // ret; push
    site_is("c3 53 c3", Role::Free, 0, false);
    // 16-bit jcc, which the kernel rejects; bnd jmp
    site_is("66 0f 84 00 00 53 c3", MALLOC, 0, false);
    site_is("f2 e9 00 10 00 00", MALLOC, 0, false);
}

#[test]
fn free_skips_its_null_check_only() {
    // cmp $0,%rdi; je; push
    site_is("48 83 ff 00 74 05 53 5b c3", Role::Free, 6, true);
    // cmp $1,%rdi; je; push
    site_is("48 83 ff 01 74 05 53 5b c3", Role::Free, 4, true);
    // test %edi,%edi: half of the pointer
    site_is("85 ff 74 05 53 5b c3", Role::Free, 2, true);
    // test %rsi,%rsi; je; push
    site_is("48 85 f6 74 05 53 5b c3", Role::Free, 3, true);
    // test %rdi,%rdi; jne: the push is free(NULL)'s way
    site_is("48 85 ff 75 05 53 5b c3", Role::Free, 3, true);
    // test %rdi,%rdi; mov %rdi,%rax; je: not directly behind it
    site_is("48 85 ff 48 89 f8 74 05 53 5b c3", Role::Free, 6, true);
    // test; je; je; push: the second jump is the site
    site_is("48 85 ff 74 05 74 03 53 5b c3", Role::Free, 5, true);
    // test; je; test; je; push: free(NULL) takes the first
    site_is("48 85 ff 74 0a 48 85 ff 74 05 53 5b c3", Role::Free, 10, true);
    // test; je; xor %edi,%edi; push: nothing better behind the jump
    site_is("48 85 ff 74 05 31 ff 53 5b c3", Role::Free, 3, true);
    // test; je over one nop to the push: both ways meet before it
    site_is("48 85 ff 74 03 0f 1f 00 53 5b c3", Role::Free, 3, true);
}

#[test]
fn a_site_that_a_loop_comes_back_to_is_passed_over() {
    // mov %rdi,%rax; push %rbx; pop %rbx; jmp to the push
    site_is("48 89 f8 53 5b eb fc", MALLOC, 0, false);
    // … to the instruction above the push, from which it is reached again
    site_is("89 d0 89 d0 53 5b eb fa", MALLOC, 0, false);
    // … into the middle of that one
    site_is("89 d0 89 d0 53 5b eb fb", MALLOC, 0, false);
    // … to the one behind the push
    site_is("89 d0 53 5b eb fd", MALLOC, 2, true);
    // … to the entry: a call like any other
    site_is("89 d0 53 5b eb fa", MALLOC, 2, true);
    // jcc back to itself
    site_is("89 d0 74 fe c3", MALLOC, 0, false);
}

#[test]
fn longer_nops_are_passed_over_and_short_ones_taken() {
    site_is("90 c3", MALLOC, 0, true);
    site_is("66 90 90 c3", MALLOC, 2, true);
    site_is("0f 1f 44 00 00 55 c3", MALLOC, 5, true);
    // pause; xchg %rax,%r8
    site_is("f3 90 55 c3", MALLOC, 2, true);
    site_is("49 90 55 c3", MALLOC, 2, true);
    // data16 push, push %rbx with a useless prefix
    site_is("66 50 55 c3", MALLOC, 0, false);
    site_is("48 53 c3", MALLOC, 0, false);
}

#[test]
fn what_does_not_decode_is_probed_at_its_entry() {
    // mov %rdi,%rax; push %rbx; an invalid opcode
    site_is("48 89 f8 53 06", MALLOC, 0, false);
    site_is("06", MALLOC, 0, false);
    site_is("", MALLOC, 0, false);
    // Ends inside an instruction.
    site_is("48 89 f8 53 48 8d", MALLOC, 0, false);
}

#[test]
fn sites_are_within_the_symbol() {
    let code = bytes("f3 0f 1e fa 55 c3");
    assert_eq!(choose(&code, 4, MALLOC), Site { delta: 0, emulated: false });
    assert_eq!(choose(&code, 5, MALLOC), Site { delta: 4, emulated: true });
    assert_eq!(choose(&code, 0, MALLOC), Site { delta: 0, emulated: false });
    assert_eq!(choose(&code[4..], 0, MALLOC), Site { delta: 0, emulated: true });
    // Fewer bytes than the symbol has.
    assert_eq!(choose(&code, 1000, MALLOC), Site { delta: 4, emulated: true });
}

#[test]
fn a_function_longer_than_what_is_read_may_be_cut_inside_an_instruction() {
    let mut code = bytes("f3 0f 1e fa 55");
    code.resize(super::MAX_FUNCTION as usize - 2, 0x90);
    code.extend_from_slice(&bytes("48 8d"));
    assert_eq!(choose(&code, 1 << 20, MALLOC), Site { delta: 4, emulated: true });
}

#[test]
fn any_bytes_give_a_site_within_them() {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    for round in 0..20_000_u64 {
        let code: Vec<u8> = (0..round % 40)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state >> 32) as u8
            })
            .collect();
        for role in [MALLOC, POSIX_MEMALIGN, Role::Free] {
            let site = choose(&code, code.len() as u64, role);
            assert!(site.delta == 0 || site.delta < code.len() as u64);
        }
    }
}

#[test]
fn functions_that_map_memory_are_probed_before_they_move_the_stack() {
    // glibc's mremap: sub rsp first, a jump far below.
    site_is("48 83 ec 58 4c 89 44 24 40 31 c0 83 f9 07 77 02 31 c0 c3", Role::Map(Mapping::Remap), 0, false);
    // glibc's mmap: tests an argument that is not needed.
    site_is("41 f7 c1 ff 0f 00 00 75 02 31 c0 c3", Role::Map(Mapping::Map), 7, true);
}
