//! What memory a process uses and what bounds it, from /proc.

use std::{
    fs::{self, File},
    io::Read as _,
};

use super::threads;

/// Bytes read of a file in /proc. `status` has 2 KiB, `children` 7 bytes a child.
const MAX_BYTES: u64 = 64 << 10;
/// Threads whose children are looked up.
const MAX_THREADS: usize = 256;
/// Children that are returned.
const MAX_CHILDREN: usize = 1024;

/// Memory of a process, bytes. The kernel may be off by some pages for each CPU (Linux before 6.17) or thread (before 6.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Resident anonymous memory (`RssAnon`).
    pub anon: u64,
    /// Resident pages of files (`RssFile`).
    pub file: u64,
    /// Resident shared memory and tmpfs (`RssShmem`).
    pub shmem: u64,
    /// Anonymous memory that is swapped out (`VmSwap`).
    pub swap: u64,
    /// Page tables (`VmPTE`).
    pub page_tables: u64,
    /// Address space (`VmSize`).
    pub size: u64,
    /// Living threads (`Threads`).
    pub threads: u64,
    /// Bytes written to files, pipes and sockets so far, by calls of all threads (`wchar` of /proc/PID/io); `None`: the file is not to
    /// be read.
    pub written: Option<u64>,
}

/// Private resident memory of process `pid`, by /proc/PID/statm; `None` if it is gone.
#[must_use]
pub fn private(pid: u32) -> Option<u64> {
    let text = read_some(&format!("/proc/{pid}/statm"))?;
    let mut fields = text.split_ascii_whitespace().skip(1).map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next()??, fields.next()??);
    Some(resident.saturating_sub(shared) * 4096)
}

impl Usage {
    /// Reads /proc/PID/status and io of process `pid`, through a living thread; `None` if it is gone. It costs some microseconds,
    /// and takes no lock that page faults wait for.
    #[must_use]
    pub fn read(pid: u32) -> Option<Self> {
        let through = threads::living(pid)?;
        let text = read_some(&format!("/proc/{pid}/task/{through}/status"))?;
        let written = read_some(&format!("/proc/{pid}/io")).as_deref().and_then(written_in);
        Some(Self { written, ..Self::parse(&text)? })
    }

    /// `None` if it has no figures of memory, as that of a zombie.
    fn parse(status: &str) -> Option<Self> {
        let field = |name: &str| {
            let rest = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            Some(rest.trim())
        };
        let kib = |name: &str| {
            let number = field(name)?.strip_suffix("kB")?.trim_end();
            number.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self {
            anon: kib("RssAnon")?,
            file: kib("RssFile")?,
            shmem: kib("RssShmem")?,
            swap: kib("VmSwap").unwrap_or_default(),
            page_tables: kib("VmPTE").unwrap_or_default(),
            size: kib("VmSize")?,
            threads: field("Threads").and_then(|number| number.parse().ok()).unwrap_or(1),
            written: None,
        })
    }
}

/// `wchar` in the text of an `io` file.
fn written_in(io: &str) -> Option<u64> {
    io.lines().find_map(|line| line.strip_prefix("wchar:")?.trim().parse().ok())
}

/// The soft limit on the address space of process `pid` (`RLIMIT_AS`), bytes; `None`: there is none, or it is gone.
#[must_use]
pub fn address_space_limit(pid: u32) -> Option<u64> {
    limit_of(&read_some(&format!("/proc/{pid}/limits"))?, "Max address space")
}

/// A soft limit in the text of a `limits` file; `None` for `unlimited`.
fn limit_of(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok())
}

/// Children of process `pid`, of all its threads: at most 1,024, in no order. Empty where the kernel does not tell
/// (`CONFIG_PROC_CHILDREN`).
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let tasks = tasks.take(MAX_THREADS).filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let texts = tasks.filter_map(|tid| read_some(&format!("/proc/{pid}/task/{tid}/children")));
    let mut found = Vec::new();
    for text in texts {
        let pids = text.split_ascii_whitespace().filter_map(|word| word.parse::<u32>().ok());
        found.extend(pids.take(MAX_CHILDREN - found.len().min(MAX_CHILDREN)));
    }
    found
}

/// The stack pointer of thread `tid` of process `pid`, if it is in a system call or stopped; `None` while it runs.
#[must_use]
pub fn stack_pointer(pid: u32, tid: u32) -> Option<u64> {
    stack_pointer_of(&read_some(&format!("/proc/{pid}/task/{tid}/syscall"))?)
}

/// The last two fields of a `syscall` file are stack pointer and program counter.
fn stack_pointer_of(text: &str) -> Option<u64> {
    let mut fields = text.split_ascii_whitespace().rev();
    fields.next()?;
    u64::from_str_radix(fields.next()?.strip_prefix("0x")?, 16).ok().filter(|&pointer| pointer > 0)
}

/// The beginning of a file as lossy text; `None` if it cannot be read.
pub(super) fn read_some(path: &str) -> Option<String> {
    let mut text = Vec::new();
    File::open(path).ok()?.take(MAX_BYTES).read_to_end(&mut text).ok()?;
    Some(String::from_utf8_lossy(&text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::{Usage, children, limit_of, stack_pointer_of, written_in};

    #[test]
    fn figures_of_a_status_file() {
        let text = "Name:\tRssAnon:\nVmSize:\t  10 kB\nVmRSS:\t 9 kB\nRssAnon:\t       4 kB\nRssFile:\t 3 kB\n\
                    RssShmem:\t 2 kB\nVmPTE:\t 1 kB\nVmSwap:\t 5 kB\nThreads:\t7\n";
        let usage = Usage::parse(text).unwrap();
        let expected = Usage {
            anon: 4096,
            file: 3072,
            shmem: 2048,
            swap: 5120,
            page_tables: 1024,
            size: 10240,
            threads: 7,
            written: None,
        };
        assert_eq!(usage, expected);
        assert_eq!(written_in("rchar: 7\nwchar: 12\nsyscr: 1\n"), Some(12));
        assert_eq!(Usage::parse("Name:\tzombie\nState:\tZ\n"), None);
        assert_eq!(Usage::parse("RssAnon: 99999999999999999999 kB\nVmSize: 1 kB\n"), None);
    }

    #[test]
    fn this_process_uses_memory() {
        let usage = Usage::read(std::process::id()).unwrap();
        assert!(usage.anon > 0 && usage.size > usage.anon && usage.threads > 0, "{usage:?}");
        assert!(usage.written.is_some());
        assert_eq!(Usage::read(u32::MAX - 1), None);
    }

    #[test]
    fn limits_by_name() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max data size             unlimited            unlimited            bytes     \n\
                    Max address space         1048576              unlimited            bytes     \n";
        assert_eq!(limit_of(text, "Max address space"), Some(1 << 20));
        assert_eq!(limit_of(text, "Max data size"), None);
    }

    #[test]
    fn a_child_is_found() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let found = children(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(found.contains(&child.id()), "{found:?}");
    }

    #[test]
    fn stack_pointers_of_threads_in_calls() {
        let text = "35 0x7ffe 0x0 0x0 0x0 0x0 0x0 0x7ffe5df0 0x7f1a2b\n";
        assert_eq!(stack_pointer_of(text), Some(0x7ffe_5df0));
        assert_eq!(stack_pointer_of("-1 0x7ffe5df0 0x7f1a2b\n"), Some(0x7ffe_5df0));
        assert_eq!(stack_pointer_of("running\n"), None);
        assert_eq!(stack_pointer_of("0 0x0 0x0\n"), None);
        assert_eq!(stack_pointer_of(""), None);
    }
}
