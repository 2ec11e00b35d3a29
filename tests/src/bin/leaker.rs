//! Leaks once, on a request on standard input: `leaker KIND [BYTES]`.

use std::{ffi::c_void, hint::black_box, ptr::null_mut};

use memtrace_tests::fixture::{say, wait};

unsafe extern "C" {
    fn valloc(size: usize) -> *mut c_void;
    fn pvalloc(size: usize) -> *mut c_void;
}

#[inline(never)]
fn leak(kind: &str, amount: usize) -> *mut c_void {
    // SAFETY: each block is used as it was allocated; `realloc` gets one that is live, `free` too.
    let block = unsafe {
        match kind {
            "malloc" => libc::malloc(amount),
            "calloc" => libc::calloc(amount, 1),
            "realloc" => libc::realloc(libc::malloc(10), amount),
            "posix_memalign" => {
                let mut block = null_mut();
                libc::posix_memalign(&raw mut block, 512, amount);
                block
            }
            "valloc" => valloc(amount),
            "memalign" => libc::memalign(512, amount),
            "pvalloc" => pvalloc(amount),
            "aligned_alloc" => libc::aligned_alloc(512, amount),
            "no_leak" => {
                libc::free(black_box(libc::malloc(amount)));
                null_mut()
            }
            _ => panic!("no such kind: {kind}"),
        }
    };
    black_box(block)
}

fn main() {
    let mut arguments = std::env::args().skip(1);
    let kind = arguments.next().unwrap_or_default();
    let amount = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(30);
    wait();
    leak(&kind, amount);
    say("leaked");
}
