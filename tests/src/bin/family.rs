//! Calls every function of the C library's allocator, each from a function of its own that says what it keeps.

use std::{ffi::c_void, hint::black_box, ptr::null_mut};

use memtrace_tests::fixture::perform;

unsafe extern "C" {
    fn valloc(size: usize) -> *mut c_void;
    fn pvalloc(size: usize) -> *mut c_void;
}

/// More than any allocator gives, and yet not negative.
const HUGE: usize = isize::MAX as usize;

macro_rules! callers {
    ($($(#[$doc:meta])* fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty { $call:expr })*) => {$(
        $(#[$doc])*
        #[inline(never)]
        fn $name($($argument: $type),*) -> $result {
            // SAFETY: the arguments are live blocks or null, and places that can be written, see `work`.
            black_box(unsafe { $call })
        }
    )*};
}

callers! {
    fn calloc_kept(count: usize, size: usize) -> *mut c_void { libc::calloc(count, size) }
    fn calloc_overflowing(count: usize, size: usize) -> *mut c_void { libc::calloc(count, size) }
    fn calloc_huge(count: usize, size: usize) -> *mut c_void { libc::calloc(count, size) }
    fn malloc_grown(size: usize) -> *mut c_void { libc::malloc(size) }
    fn realloc_growing(block: *mut c_void, size: usize) -> *mut c_void { libc::realloc(block, size) }
    fn malloc_shrunk(size: usize) -> *mut c_void { libc::malloc(size) }
    fn realloc_shrinking(block: *mut c_void, size: usize) -> *mut c_void { libc::realloc(block, size) }
    fn realloc_of_null(size: usize) -> *mut c_void { libc::realloc(null_mut(), size) }
    fn malloc_realloced_to_zero(size: usize) -> *mut c_void { libc::malloc(size) }
    fn realloc_to_zero(block: *mut c_void) -> *mut c_void { libc::realloc(block, 0) }
    fn malloc_before_failure(size: usize) -> *mut c_void { libc::malloc(size) }
    fn realloc_failing(block: *mut c_void) -> *mut c_void { libc::realloc(block, HUGE) }
    fn malloc_before_overflowed_shift(size: usize) -> *mut c_void { libc::malloc(size) }
    fn realloc_overflowed_shift(block: *mut c_void, bits: u32) -> *mut c_void {
        libc::realloc(block, 1 << bits)
    }
    fn malloc_freed_after_failure(size: usize) -> *mut c_void { libc::malloc(size) }
    fn posix_memalign_kept(place: *mut *mut c_void, align: usize, size: usize) -> i32 {
        libc::posix_memalign(place, align, size)
    }
    fn posix_memalign_misaligned(place: *mut *mut c_void, align: usize, size: usize) -> i32 {
        libc::posix_memalign(place, align, size)
    }
    fn posix_memalign_huge(place: *mut *mut c_void, align: usize) -> i32 {
        libc::posix_memalign(place, align, HUGE)
    }
    fn aligned_alloc_kept(align: usize, size: usize) -> *mut c_void { libc::aligned_alloc(align, size) }
    fn memalign_kept(align: usize, size: usize) -> *mut c_void { libc::memalign(align, size) }
    fn valloc_kept(size: usize) -> *mut c_void { valloc(size) }
    fn pvalloc_kept(size: usize) -> *mut c_void { pvalloc(size) }
    fn reallocarray_kept(count: usize, size: usize) -> *mut c_void {
        libc::reallocarray(null_mut(), count, size)
    }
    fn malloc_before_overflow(size: usize) -> *mut c_void { libc::malloc(size) }
    fn reallocarray_overflowing(block: *mut c_void) -> *mut c_void {
        libc::reallocarray(block, usize::MAX / 2, 3)
    }
    fn malloc_of_zero() -> *mut c_void { libc::malloc(0) }
    fn malloc_failing() -> *mut c_void { libc::malloc(HUGE) }
    fn malloc_freed(size: usize) -> *mut c_void { libc::malloc(size) }
    fn free_null() -> () { libc::free(null_mut()) }
    fn free_it(block: *mut c_void) -> () { libc::free(block) }
}

fn work() {
    for round in 0..7 {
        assert!(!calloc_kept(10, 100 + round).is_null());
        assert!(calloc_overflowing(usize::MAX, 2).is_null());
        assert!(calloc_huge(1 << 30, 1 << 32).is_null());
        assert!(!realloc_growing(malloc_grown(100), 100_000).is_null());
        assert!(!realloc_shrinking(malloc_shrunk(10_000), 10).is_null());
        assert!(!realloc_of_null(333).is_null());
        assert!(realloc_to_zero(malloc_realloced_to_zero(444)).is_null());
        assert!(realloc_failing(malloc_before_failure(555)).is_null());
        for bits in [56, 60, 63] {
            assert!(realloc_overflowed_shift(malloc_before_overflowed_shift(99), bits).is_null());
        }
        let block = malloc_freed_after_failure(888);
        assert!(realloc_failing(block).is_null());
        assert!(reallocarray_overflowing(block).is_null());
        free_it(block);
        aligned();
        assert!(!reallocarray_kept(3, 37).is_null());
        assert!(reallocarray_overflowing(malloc_before_overflow(66)).is_null());
        assert!(!malloc_of_zero().is_null());
        assert!(malloc_failing().is_null());
        free_it(malloc_freed(77));
        free_null();
    }
}

fn aligned() {
    let mut place = null_mut();
    assert_eq!(posix_memalign_kept(&raw mut place, 512, 1234), 0);
    // The place holds a live block still: a reader that does not look at the result counts that.
    assert_ne!(posix_memalign_misaligned(&raw mut place, 3, 99), 0);
    assert_ne!(posix_memalign_huge(&raw mut place, 64), 0);
    assert!(!aligned_alloc_kept(256, 512).is_null());
    assert!(!memalign_kept(128, 700).is_null());
    assert!(!valloc_kept(800).is_null());
    assert!(!pvalloc_kept(900).is_null());
}

fn main() {
    perform(work);
}
