// The last 1,000 requests are kept.
// no leak
// steady: keep
use std::{collections::VecDeque, thread::sleep, time::Duration};

#[inline(never)]
fn keep(recent: &mut VecDeque<String>, n: u64) {
    recent.push_back(format!("a request with a text of some length, number {n}"));
    if recent.len() > 1000 {
        recent.pop_front();
    }
}

fn main() {
    let mut recent = VecDeque::new();
    for n in 0.. {
        keep(&mut recent, n);
        sleep(Duration::from_millis(1));
    }
}
