//! The program that `demo` traces: leaks at two places, and allocates and frees at a third.

use std::{process::ExitCode, time::Duration};

/// Rounds a second; each leaks once at each place.
const PAUSE: Duration = Duration::from_millis(10);

/// Leaks until its parent ends.
pub(in crate::cli) fn main() -> anyhow::Result<ExitCode> {
    let parent = nix::unistd::getppid();
    while nix::unistd::getppid() == parent {
        leak_session();
        leak_log_line();
        for _ in 0..10 {
            work();
        }
        std::thread::sleep(PAUSE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A session that is opened and never closed: 4 KiB each.
#[inline(never)]
fn leak_session() {
    // SAFETY: malloc takes any size.
    let session = unsafe { libc::malloc(4096) };
    std::hint::black_box(session);
}

/// A log line that is never freed after it was written: 120 bytes each.
#[inline(never)]
fn leak_log_line() {
    // SAFETY: calloc takes any size.
    let line = unsafe { libc::calloc(1, 120) };
    std::hint::black_box(line);
}

/// What well-kept code does.
#[inline(never)]
fn work() {
    // SAFETY: the block is freed once, and not used afterwards.
    unsafe {
        let block = libc::malloc(1000);
        std::hint::black_box(block);
        libc::free(block);
    }
}

/// Waits until a process just released is past its loader, so that its libraries can be found.
pub(super) fn wait_until_running(pid: u32) {
    for _ in 0..500 {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
        if maps.lines().any(|line| line.contains("libc") && line.contains("r-xp")) {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
