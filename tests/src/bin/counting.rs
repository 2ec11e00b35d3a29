//! Allocates from many threads and says what is left: `counting THREADS ALLOCATIONS-PER-THREAD`.
//!
//! Threads free what other threads allocated. Each keeps its first block, so that every stack stays in the report.

use std::{
    hint::black_box,
    sync::atomic::{AtomicPtr, AtomicU64, Ordering},
};

use memtrace_tests::fixture::{say, wait};

static TABLE: [AtomicPtr<u64>; 1024] = [const { AtomicPtr::new(std::ptr::null_mut()) }; 1024];
static KEPT_BYTES: AtomicU64 = AtomicU64::new(0);
static FREED_BYTES: AtomicU64 = AtomicU64::new(0);

/// Allocates and puts the block in the place of another one, which it frees.
#[inline(never)]
fn churn(count: u64) {
    for round in 0..count {
        let size = 16 + round * 7 % 500;
        // SAFETY: the block holds its size in its first eight bytes; the one taken out of the table is no other
        // thread's any more.
        unsafe {
            let block: *mut u64 = black_box(libc::malloc(size as usize)).cast();
            block.write(size);
            if round == 0 {
                KEPT_BYTES.fetch_add(size, Ordering::Relaxed);
                continue;
            }
            let place = &TABLE[(round * 31 % 1024) as usize];
            let old = place.swap(block, Ordering::AcqRel);
            if !old.is_null() {
                FREED_BYTES.fetch_add(old.read(), Ordering::Relaxed);
                libc::free(old.cast());
            }
        }
    }
}

fn main() {
    let number = |at| std::env::args().nth(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or(1);
    let (threads, count) = (number(1), number(2));
    say("ready");
    wait();
    let handles: Vec<_> = (0..threads).map(|_| std::thread::spawn(move || churn(count))).collect();
    handles.into_iter().for_each(|handle| handle.join().expect("a thread that does not panic"));
    let left: Vec<u64> = TABLE
        .iter()
        .map(|place| place.load(Ordering::Acquire))
        .filter(|block| !block.is_null())
        // SAFETY: a live block, which holds its size.
        .map(|block| unsafe { block.read() })
        .collect();
    let bytes = KEPT_BYTES.load(Ordering::Relaxed) + left.iter().sum::<u64>();
    let blocks = threads + left.len() as u64;
    let freed = FREED_BYTES.load(Ordering::Relaxed);
    say(&format!("done {bytes} {blocks} {freed} {}", threads * count - blocks));
    wait();
}
