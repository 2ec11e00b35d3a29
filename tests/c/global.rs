//! A Rust program whose global allocator is a jemalloc with the prefix `_rjem_`, as tikv-jemallocator builds it, or, with the feature
//! `of_crate`, mimalloc from the crate of that name.

use std::{
    hint::black_box,
    io::{BufRead as _, Write as _},
};

#[cfg(not(feature = "of_crate"))]
mod jemalloc {
    use std::alloc::{GlobalAlloc, Layout};

    unsafe extern "C" {
        fn _rjem_malloc(size: usize) -> *mut u8;
        fn _rjem_calloc(count: usize, size: usize) -> *mut u8;
        fn _rjem_realloc(block: *mut u8, size: usize) -> *mut u8;
        fn _rjem_mallocx(size: usize, flags: i32) -> *mut u8;
        fn _rjem_rallocx(block: *mut u8, size: usize, flags: i32) -> *mut u8;
        fn _rjem_sdallocx(block: *mut u8, size: usize, flags: i32);
    }

    pub struct Jemalloc;

    /// `MALLOCX_LG_ALIGN`, where the alignment is more than malloc's.
    fn flags(layout: Layout) -> i32 {
        if layout.align() <= 16 && layout.align() <= layout.size() { 0 } else { layout.align().trailing_zeros() as i32 }
    }

    unsafe impl GlobalAlloc for Jemalloc {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            match flags(layout) {
                0 => unsafe { _rjem_malloc(layout.size()) },
                flags => unsafe { _rjem_mallocx(layout.size(), flags) },
            }
        }

        unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
            match flags(layout) {
                0 => unsafe { _rjem_calloc(1, layout.size()) },
                // MALLOCX_ZERO
                flags => unsafe { _rjem_mallocx(layout.size(), flags | 0x40) },
            }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            unsafe { _rjem_sdallocx(block, layout.size(), flags(layout)) }
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
            match flags(layout) {
                0 => unsafe { _rjem_realloc(block, size) },
                flags => unsafe { _rjem_rallocx(block, size, flags) },
            }
        }
    }
}

#[cfg(not(feature = "of_crate"))]
#[global_allocator]
static GLOBAL: jemalloc::Jemalloc = jemalloc::Jemalloc;

#[cfg(feature = "of_crate")]
#[global_allocator]
static GLOBAL: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[repr(align(64))]
struct Wide([u8; 640]);

#[inline(never)]
fn keep_boxed(n: u8) {
    std::mem::forget(black_box(Box::new([n; 500])));
}

#[inline(never)]
fn keep_zeroed() {
    std::mem::forget(black_box(vec![0u8; 300]));
}

#[inline(never)]
fn keep_grown() {
    let mut grown = vec![1u8; 50];
    grown.reserve_exact(850);
    std::mem::forget(black_box(grown));
}

#[inline(never)]
fn keep_aligned(n: u8) {
    std::mem::forget(black_box(Box::new(Wide([n; 640]))));
}

#[inline(never)]
fn come_and_go(n: u8) {
    let mut text = vec![n; 3000];
    text.extend_from_slice(&[n; 5000]);
    black_box(&text);
}

fn next(word: &str) {
    println!("{word}");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).unwrap();
}

fn main() {
    next("ready");
    for n in 0..200 {
        keep_boxed(n as u8);
        keep_zeroed();
        keep_grown();
        keep_aligned(n as u8);
        come_and_go(n as u8);
    }
    next("done");
    std::process::exit(4);
}
