//! The threads of a process. It lives as long as one of them does, even if the main thread has ended: `/proc/PID` then
//! shows no memory, but `/proc/TID` of a living thread does.

use std::{
    fs::{self, File},
    io::Read as _,
    time::{Duration, Instant},
};

/// Bytes of a `stat` file that contain the flags: a name of at most 64 bytes, numbers, a letter.
const HEAD: u64 = 256;
/// Bytes of a `comm` file: a name of at most 64 bytes, as kernel threads have them, and a line feed.
const MAX_NAME: u64 = 65;
/// `PF_EXITING` (include/linux/sched.h): it has released its memory or is about to.
const EXITING: u64 = 4;
/// `PF_SIGNALED`: a signal has killed it.
const SIGNALED: u64 = 0x400;
/// Time between two checks of a thread that is ending.
const STEP: Duration = Duration::from_micros(500);

/// The thread through which /proc shows process `pid`: the main thread while it lives, then the oldest living one.
/// `None`: there is no such process, or all its threads have ended.
#[must_use]
pub fn living(pid: u32) -> Option<u32> {
    if lives(pid, pid) {
        return Some(pid);
    }
    // The kernel lists threads in the order in which they began.
    fs::read_dir(format!("/proc/{pid}/task"))
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .find(|&tid| lives(pid, tid) && !is_killed(pid, tid))
}

/// The name of thread `tid` of process `pid`, at most 15 bytes, as a lossy string; `None` if it has ended.
#[must_use]
pub fn name(pid: u32, tid: u32) -> Option<String> {
    let mut text = Vec::new();
    let file = File::open(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    file.take(MAX_NAME).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned())
}

/// Threads of process `pid`, at most `limit`, in the order in which they began.
#[must_use]
pub fn all(pid: u32, limit: usize) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten();
    tasks.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).take(limit).collect()
}

/// Whether thread `tid` of process `pid` lives.
#[must_use]
pub fn lives(pid: u32, tid: u32) -> bool {
    stat(pid, tid).is_some_and(|stat| !is_ending(&stat))
}

/// Whether there is a thread `tid` of process `pid`.
pub(super) fn exists(pid: u32, tid: u32) -> bool {
    fs::exists(format!("/proc/{pid}/task/{tid}")).unwrap_or(false)
}

/// Whether thread `tid` of process `pid` ends because it was killed: by a signal, or because another thread ended the
/// process or executes another program.
pub(super) fn was_killed(pid: u32, tid: u32) -> bool {
    stat(pid, tid).is_some_and(|stat| flags(&stat).is_some_and(|flags| flags & SIGNALED != 0))
}

/// Whether thread `tid` of process `pid` waits in `exec` for the other threads to end.
pub(super) fn is_in_exec(pid: u32, tid: u32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).unwrap_or_default();
    let call = call.split_ascii_whitespace().next().and_then(|number| number.parse().ok());
    call.is_some_and(|call: i64| call == libc::SYS_execve || call == libc::SYS_execveat)
        && !is_killed(pid, tid)
}

/// The beginning of a thread's `stat` file.
fn stat(pid: u32, tid: u32) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let file = File::open(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    file.take(HEAD).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Waits up to `limit` until a thread whose end was announced has ended: the kernel announces it slightly before.
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

/// Whether a thread is about to be killed, as all are when one ends the process.
pub(super) fn is_killed(pid: u32, tid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/task/{tid}/status")).unwrap_or_default();
    status
        .lines()
        .filter_map(|line| line.strip_prefix("SigPnd:"))
        .filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .any(|mask| mask & 1 << (libc::SIGKILL - 1) != 0)
}

/// Whether the thread of a `stat` file has ended or is about to.
fn is_ending(stat: &[u8]) -> bool {
    let dead = matches!(fields(stat).split_ascii_whitespace().next(), None | Some("Z" | "X" | "x"));
    dead || flags(stat).is_some_and(|flags| flags & EXITING != 0)
}

/// The flags in a `stat` file: behind state, parent, group, session, terminal and its group.
fn flags(stat: &[u8]) -> Option<u64> {
    fields(stat).split_ascii_whitespace().nth(6)?.parse().ok()
}

/// The fields of a `stat` file that follow the name, which may contain parentheses.
fn fields(stat: &[u8]) -> std::borrow::Cow<'_, str> {
    let name_end = stat.iter().rposition(|&byte| byte == b')').map_or(stat.len(), |end| end + 1);
    String::from_utf8_lossy(stat.get(name_end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::{is_ending, lives, living, name};

    #[test]
    fn fields_come_behind_the_name() {
        for (stat, ending) in [
            (&b"12 (a) Z) R 1 2 3 0 -1 4194304 95"[..], false),
            (b"12 (sleepy) Z 1 2 3 0 -1 4227084 95", true),
            (b"12 (sleepy) S 1 2 3 0 -1 4194308 95", true),
            (b"12 (sleepy) D 1 2 3 0 -1 4194304 95", false),
            (b"12 (gone) X 1 2 3 0 -1 4194304 95", true),
            (b"12 (cut", true),
            (b"12 (cut)", true),
        ] {
            assert_eq!(is_ending(stat), ending, "{}", String::from_utf8_lossy(stat));
        }
    }

    #[test]
    fn this_process_lives_by_its_main_thread() {
        let pid = std::process::id();
        assert_eq!(living(pid), Some(pid));
        assert!(lives(pid, pid) && !lives(pid, 1));
        assert_eq!(living(u32::MAX), None);
        assert!(name(pid, pid).is_some_and(|name| !name.is_empty() && !name.ends_with('\n')));
        assert_eq!(name(pid, 1), None);
    }
}
