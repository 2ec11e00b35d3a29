// A map whose keys never come back.
// leak: note
use std::{collections::HashMap, thread::sleep, time::Duration};

#[inline(never)]
fn note(seen: &mut HashMap<u64, String>, key: u64) {
    seen.insert(key, format!("request {key} was answered"));
}

fn main() {
    let mut seen = HashMap::new();
    for key in 0.. {
        let body = vec![1_u8; 300];
        if body[0] == 1 && key % 6 == 0 {
            note(&mut seen, key);
        }
        sleep(Duration::from_millis(3));
    }
}
