// One box in 50 is forgotten.
// leak: make_box
use std::{thread::sleep, time::Duration};

#[inline(never)]
fn make_box(n: u64) -> Box<[u64; 30]> {
    Box::new([n; 30])
}

fn main() {
    for n in 0.. {
        let made = make_box(n);
        if n % 50 == 0 {
            std::mem::forget(made);
        }
        sleep(Duration::from_millis(2));
    }
}
