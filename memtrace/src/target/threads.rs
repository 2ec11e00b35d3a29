//! The threads of a process. It lives as long as one of them does, whatever became of the main thread: `/proc/PID` shows no
//! memory then, `/proc/TID` of a living thread does.

use std::{
    fs::{self, File},
    io::Read as _,
    time::{Duration, Instant},
};

/// Bytes of a `stat` file that hold the state: the number, a name of at most 64 bytes, the letter.
const HEAD: u64 = 128;
/// Time between two looks at a thread that is ending.
const STEP: Duration = Duration::from_micros(500);

/// The thread through which /proc shows process `pid`: the main thread while it lives, then the oldest of those that do.
/// `None`: there is no such process, or all of it has ended.
#[must_use]
pub fn living(pid: u32) -> Option<u32> {
    if lives(pid, pid) {
        return Some(pid);
    }
    // The kernel lists threads in the order in which they began.
    fs::read_dir(format!("/proc/{pid}/task"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|&tid| lives(pid, tid))
}

/// Whether thread `tid` of process `pid` lives.
#[must_use]
pub fn lives(pid: u32, tid: u32) -> bool {
    state(&format!("/proc/{pid}/task/{tid}/stat")).is_some_and(|state| !is_dead(state))
}

/// Waits up to `limit` until a thread that is said to have ended has: the kernel says so a moment before.
#[must_use]
pub fn has_ended(pid: u32, tid: u32, limit: Duration) -> bool {
    let end = Instant::now() + limit;
    while lives(pid, tid) {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(STEP);
    }
    true
}

/// The state letter in a `stat` file.
fn state(path: &str) -> Option<u8> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(HEAD).read_to_end(&mut text).ok()?;
    parse_state(&text)
}

/// The letter behind the name, which may hold parentheses itself.
fn parse_state(stat: &[u8]) -> Option<u8> {
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    stat.get(end + 2).copied()
}

fn is_dead(state: u8) -> bool {
    matches!(state, b'Z' | b'X' | b'x')
}

#[cfg(test)]
mod tests {
    use super::{is_dead, lives, living, parse_state};

    #[test]
    fn the_state_comes_behind_the_name() {
        assert_eq!(parse_state(b"12 (a) Z) R 1 2 3"), Some(b'R'));
        assert_eq!(parse_state(b"12 (sleepy) Z 1 2 3"), Some(b'Z'));
        assert_eq!(parse_state(b"12 (cut"), None);
        assert_eq!(parse_state(b"12 (cut)"), None);
        assert!(is_dead(b'Z') && is_dead(b'X') && !is_dead(b'D') && !is_dead(b't'));
    }

    #[test]
    fn this_process_lives_by_its_main_thread() {
        let pid = std::process::id();
        assert_eq!(living(pid), Some(pid));
        assert!(lives(pid, pid) && !lives(pid, 1));
        assert_eq!(living(u32::MAX), None);
    }
}
