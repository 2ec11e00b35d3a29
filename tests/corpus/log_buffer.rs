// Lines of a log that are kept until somebody asks for them.
// leak: log
use std::{sync::Mutex, thread::sleep, time::Duration};

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

#[inline(never)]
fn log(text: &str) {
    if let Ok(mut lines) = LINES.lock() {
        lines.push(text.to_owned());
    }
}

fn main() {
    for n in 0_u64.. {
        let text = format!("request {n} took a while");
        if n % 5 == 0 {
            log(&text);
        }
        sleep(Duration::from_millis(3));
    }
}
