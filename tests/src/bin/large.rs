//! Keeps 300 blocks for each of which the C library maps memory, and maps 1 MiB itself.

use std::{hint::black_box, ptr::null_mut};

use memtrace_tests::fixture::perform;

/// Above glibc's first `M_MMAP_THRESHOLD`.
const LARGE: usize = 200 << 10;

#[inline(never)]
fn keep_large() {
    // SAFETY: a block that is not used otherwise.
    black_box(unsafe { libc::malloc(LARGE) });
}

#[inline(never)]
fn map_one() {
    // SAFETY: a new mapping at an address of the kernel's choice.
    black_box(unsafe {
        libc::mmap(
            null_mut(),
            1 << 20,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    });
}

fn main() {
    perform(|| {
        (0..300).for_each(|_| keep_large());
        map_one();
    });
}
