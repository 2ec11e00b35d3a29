//! What a census costs: `cargo test --release -p memtrace --lib census::tests::speed -- --ignored --nocapture`.

use super::super::take;
use crate::heap::census::{Allocator, Visit};
use nix::time::{ClockId, clock_gettime};

/// Blocks, and bytes of each.
const BLOCKS: usize = 5_000_000;
const SIZE: usize = 200;

fn cpu_seconds() -> f64 {
    let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap();
    now.tv_sec() as f64 + now.tv_nsec() as f64 / 1e9
}

#[test]
#[ignore = "it needs 1 GiB"]
#[expect(clippy::print_stdout, reason = "its result")]
fn a_large_heap() {
    let (mut to_parent, mut from_child) = ([0; 2], [0u8; 1]);
    // SAFETY: two descriptors are written.
    assert_eq!(unsafe { libc::pipe(to_parent.as_mut_ptr()) }, 0);
    // SAFETY: the child calls only functions of malloc, in its own copy of the heap, and then ends.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: it ends with the test, also if that fails.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        for number in 0..BLOCKS {
            // SAFETY: the block is as large as what is written to it.
            unsafe {
                // Otherwise the compiler leaves all of it out.
                let block = std::hint::black_box(libc::malloc(SIZE));
                block.cast::<u8>().write_bytes(0x41, SIZE);
                if number % 1000 == 0 {
                    libc::free(block);
                }
            }
        }
        // SAFETY: one byte is written; `pause` and `_exit` have no preconditions.
        unsafe {
            libc::write(to_parent[1], from_child.as_ptr().cast(), 1);
            libc::pause();
            libc::_exit(0);
        }
    }
    // SAFETY: one byte is read into one.
    assert_eq!(unsafe { libc::read(to_parent[0], from_child.as_mut_ptr().cast(), 1) }, 1);
    for _ in 0..3 {
        let (mut blocks, mut bytes) = (0u64, 0u64);
        let before = cpu_seconds();
        let census = take(child as u32, Allocator::Glibc, |visit| match visit {
            Visit::Block(block) => (blocks, bytes) = (blocks + 1, bytes + block.size),
            Visit::Again => (blocks, bytes) = (0, 0),
        });
        let seconds = cpu_seconds() - before;
        println!("{blocks} blocks, {bytes} bytes: {seconds:.3} s of CPU; {:?}", census.unwrap().missed);
        assert!(blocks >= BLOCKS as u64 / 1000 * 999);
    }
    // SAFETY: the child is ours.
    unsafe {
        libc::kill(child, libc::SIGKILL);
        libc::waitpid(child, std::ptr::null_mut(), 0);
    }
}
