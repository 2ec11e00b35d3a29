// A string and a vector that are cleared and used again.
// no leak
use std::{fmt::Write as _, thread::sleep, time::Duration};

#[inline(never)]
fn render(text: &mut String, values: &mut Vec<u64>, n: u64) {
    text.clear();
    values.clear();
    for value in 0..n % 300 {
        values.push(value);
        let _ = write!(text, "{value} ");
    }
}

fn main() {
    let (mut text, mut values) = (String::new(), Vec::new());
    for n in 0.. {
        render(&mut text, &mut values, n);
        let copy = text.clone();
        sleep(Duration::from_millis(2));
        drop(copy);
    }
}
