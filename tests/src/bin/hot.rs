//! Allocates and frees as fast as it can in `churn`, and keeps a block of 48 bytes in `keep_one` once in a thousand
//! rounds: from "ready" on, until its standard input ends. With `aligned`, by a function that hands such calls on to
//! `malloc`.

use std::{
    hint::black_box,
    sync::atomic::{AtomicBool, Ordering},
};

use memtrace_tests::fixture::{say, wait};

static STOP: AtomicBool = AtomicBool::new(false);

#[inline(never)]
fn churn(size: usize, aligned: bool) {
    // SAFETY: a block that is freed at once.
    unsafe {
        libc::free(black_box(if aligned { libc::memalign(16, size) } else { libc::malloc(size) }));
    }
}

#[inline(never)]
fn keep_one() {
    // SAFETY: a block that is not used otherwise.
    black_box(unsafe { libc::malloc(48) });
}

fn main() {
    let aligned = std::env::args().nth(1).is_some_and(|how| how == "aligned");
    let rounds = std::thread::spawn(move || {
        for round in 0_usize.. {
            churn(16 + round % 64 * 8, aligned);
            if round % 1000 == 0 {
                keep_one();
            }
            if round % 100 == 0 && STOP.load(Ordering::Relaxed) {
                break;
            }
        }
    });
    say("ready");
    wait();
    STOP.store(true, Ordering::Relaxed);
    let _ = rounds.join();
}
