//! Threads and mappings, without a process.

use std::ops::Range;

use crate::{
    profile::Root,
    target::roots::{Kind, Region, Thread, of_region, stacks::Stacks},
};

const MAIN: u32 = 100;

fn region(range: Range<u64>, name: &str) -> Region {
    let kind = match name {
        "[heap]" => Kind::Heap,
        "[stack]" => Kind::MainStack,
        _ => Kind::Anonymous,
    };
    Region {
        range,
        offset: 0,
        inode: (0, 0),
        name: name.into(),
        writable: true,
        shared: false,
        kind,
        follows_guard: false,
    }
}

fn thread(tid: u32, stack_pointer: impl Into<Option<u64>>, thread_pointer: impl Into<Option<u64>>) -> Thread {
    Thread {
        tid,
        name: format!("t{tid}"),
        stack_pointer: stack_pointer.into(),
        thread_pointer: thread_pointer.into(),
    }
}

/// Kinds and threads of some addresses in a region.
fn named(stacks: &Stacks, region: &Region, addresses: &[u64]) -> Vec<Option<(&'static str, u32)>> {
    let root = |address: &u64| stacks.name(*address, region);
    addresses.iter().map(root).map(|root| root.and_then(|root| Some((root.key(), root.tid()?)))).collect()
}

#[cfg(not(target_arch = "aarch64"))]
#[test]
fn a_stack_ends_at_the_memory_of_its_thread() {
    let stacks = Stacks::new(MAIN, vec![thread(7, 0x2_5000, 0x3_0000), thread(6, 0x1_8000, 0x2_0000)], 0x100);
    // Neighbours are one mapping; something else is behind them.
    let region = region(0x1_0000..0x8_0000, "");
    let addresses =
        [0x1_7f78, 0x1_7f80, 0x1_feff, 0x1_ff00, 0x2_0900, 0x2_0a00, 0x2_4f80, 0x2_fef8, 0x3_0000, 0x3_0a00];
    let wanted = [
        None,
        Some(("stack", 6)),
        Some(("stack", 6)),
        Some(("tls", 6)),
        Some(("tls", 6)),
        None,
        Some(("stack", 7)),
        Some(("stack", 7)),
        Some(("tls", 7)),
        None,
    ];
    assert_eq!(named(&stacks, &region, &addresses), wanted);
}

#[test]
fn the_main_thread_has_a_mapping_of_its_own() {
    let region = region(0x7000_0000..0x7010_0000, "[stack]");
    let known = Stacks::new(MAIN, vec![thread(MAIN, 0x7008_0000, 0x1000), thread(7, 0x5000, None)], 0);
    let unknown = Stacks::new(MAIN, vec![thread(MAIN, None, None)], 0);
    let addresses = [0x7000_1000, 0x7008_0000, 0x700f_fff8];
    let main = Some(("stack", MAIN));
    assert_eq!(named(&known, &region, &addresses), [None, main, main]);
    assert_eq!(named(&unknown, &region, &addresses), [main; 3]);
    assert_eq!(named(&Stacks::new(MAIN, Vec::new(), 0), &region, &addresses), [None; 3]);
}

#[test]
fn a_thread_on_another_stack_still_has_its_own() {
    let suspended = [thread(7, 0x9_0000, 0x2_0000), thread(7, None, 0x2_0000)];
    for suspended in suspended {
        let stacks = Stacks::new(MAIN, vec![suspended], 0);
        let own = region(0x1_0000..0x2_1000, "");
        assert_eq!(named(&stacks, &own, &[0x1_2000]), [Some(("stack", 7))]);
    }
    // The main thread's pointer is in memory of the loader.
    let main = Stacks::new(MAIN, vec![thread(MAIN, None, 0x2_0000)], 0);
    assert_eq!(named(&main, &region(0x1_0000..0x2_1000, ""), &[0x1_2000]), [None]);
}

#[test]
fn a_stack_that_the_program_made_ends_soon() {
    let stacks = Stacks::new(MAIN, vec![thread(7, 0x100_0000, 0x50_0000)], 0);
    let anonymous = region(0xf0_0000..0x200_0000, "");
    let stack = Some(("stack", 7));
    assert_eq!(named(&stacks, &anonymous, &[0x100_0000, 0x10f_fff8, 0x110_0000]), [stack, stack, None]);
    assert_eq!(named(&stacks, &region(0xf0_0000..0x200_0000, "[heap]"), &[0x100_0000]), [None]);
}

#[test]
fn mappings_have_their_names() {
    let named = |name: &str| of_region(Some(&region(0..1, name)));
    for heap in ["", "[heap]", "[anon: glibc: malloc]", "[anon:scudo:primary]", "[anon:libc_malloc]"] {
        assert_eq!(named(heap), Root::Heap);
    }
    for other in ["/memfd:x (deleted)", "/dev/shm/a", "[anon:mine]", "[stack]", "/SYSV00000000 (deleted)"] {
        assert_eq!(named(other), Root::mapping(other));
    }
    let shared = Region { kind: Kind::SharedMemory, ..region(0..1, "") };
    assert_eq!(of_region(Some(&shared)), Root::mapping("[anon]"));
    assert_eq!(of_region(None), Root::mapping("[unknown]"));
}
