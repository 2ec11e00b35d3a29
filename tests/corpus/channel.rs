// A channel between two threads.
// no leak
use std::{sync::mpsc::channel, thread, thread::sleep, time::Duration};

#[inline(never)]
fn produce(n: u64) -> Vec<u64> {
    vec![n; 20 + (n % 40) as usize]
}

fn main() {
    let (sender, receiver) = channel();
    let consumer = thread::spawn(move || receiver.iter().map(|values: Vec<u64>| values.len()).sum::<usize>());
    for n in 0.. {
        if sender.send(produce(n)).is_err() {
            break;
        }
        sleep(Duration::from_millis(1));
    }
    let _ = consumer.join();
}
