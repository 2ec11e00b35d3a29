//! What is left behind in the system: processes, files, lines in the kernel's log.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::build::AGENT;

/// The variable that identifies processes of a round, whatever their parent is.
pub(super) const TAG: &str = "TORTURE_TAG";

/// What the kernel says when something has gone wrong in it.
const ALARMS: [&str; 5] = ["BUG:", "Oops", "WARNING:", "general protection", "hung task"];

/// Processes that carry a tag.
pub(super) fn tagged(tag: &str) -> Vec<u32> {
    let setting = format!("{TAG}={tag}");
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| {
        let environment = fs::read(living(*pid).join("environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == setting.as_bytes())
    })
    .collect()
}

/// The directory of `/proc` with information on a process: its own, or that of a thread that continues without the main
/// one.
pub(super) fn living(pid: u32) -> PathBuf {
    let own = PathBuf::from(format!("/proc/{pid}"));
    let is_alive = |directory: &Path| fs::read_link(directory.join("exe")).is_ok();
    if is_alive(&own) {
        return own;
    }
    let tasks = fs::read_dir(own.join("task")).into_iter().flatten().flatten();
    tasks.map(|task| task.path()).find(|task| is_alive(task)).unwrap_or(own)
}

/// Whether a process runs this program.
pub(super) fn runs(pid: u32, program: &Path) -> bool {
    fs::read_link(living(pid).join("exe")).is_ok_and(|file| file == program)
}

/// Children of a process, of all its threads.
pub(super) fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|pids| pids.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect()
}

/// What a process is and waits for, for a message.
pub(super) fn describe(pid: u32) -> String {
    let file = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&file(name)).replace(['\0', '\n'], " ");
    let threads: Vec<String> =
        names(Path::new(&format!("/proc/{pid}/task"))).into_iter().map(|tid| waits(pid, &tid)).collect();
    format!("{pid} ({}): {}", text("cmdline").trim(), threads.join(", "))
}

/// What a thread waits for: its name, its state, and where it is in the kernel.
fn waits(pid: u32, tid: &str) -> String {
    let file = |name: &str| fs::read(format!("/proc/{pid}/task/{tid}/{name}")).unwrap_or_default();
    let text = |name: &str| String::from_utf8_lossy(&file(name)).trim().replace('\n', " ");
    let stat = text("stat");
    let state = stat.rsplit(") ").next().and_then(|rest| rest.chars().next()).unwrap_or('?');
    format!("{} {state} [{}]", text("comm"), text("stack"))
}

/// Names in a directory.
pub(super) fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Anonymous resident memory of a process in KiB.
pub(super) fn anonymous_kib(pid: u32) -> Option<u64> {
    anonymous(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// The kernel's log from some point on.
pub(super) struct KernelLog(File);

impl KernelLog {
    /// From now on.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn open() -> io::Result<Self> {
        let flags = OFlag::O_NONBLOCK.bits();
        let mut file = OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg")?;
        file.seek(SeekFrom::End(0))?;
        Ok(Self(file))
    }

    /// Alarming lines since the last question.
    pub(super) fn alarms(&mut self) -> Vec<String> {
        let mut alarms = Vec::new();
        let mut record = [0; 8192];
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return alarms,
                Ok(bytes) => {
                    let text = String::from_utf8_lossy(record.get(..bytes).unwrap_or_default()).into_owned();
                    alarms.extend(alarm(&text).map(str::to_owned));
                }
                // Records were lost: the next read goes on behind them.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(_) => return alarms,
            }
        }
    }
}

/// The message of a record, if it is alarming.
fn alarm(record: &str) -> Option<&str> {
    let (_, message) = record.split_once(';')?;
    let message = message.lines().next()?;
    (is_leak(message) || ALARMS.iter().any(|word| message.contains(word))).then_some(message)
}

/// Whether the kernel says that an agent has left a breakpoint.
pub(super) fn is_leak(message: &str) -> bool {
    message.contains("leaking uprobe") && message.contains(AGENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_are_told_from_other_records() {
        let leak = "4,1,2,-;uprobe: torture-agent:77 failed to unregister, leaking uprobe\n SUBSYSTEM=x\n";
        assert_eq!(alarm(leak), Some("uprobe: torture-agent:77 failed to unregister, leaking uprobe"));
        assert_eq!(alarm("4,1,2,-;uprobe: other:77 failed to unregister, leaking uprobe\n"), None);
        assert_eq!(alarm("6,1,2,-;eth0: up\n"), None);
        assert_eq!(
            alarm("0,1,2,-;BUG: unable to handle page fault\n"),
            Some("BUG: unable to handle page fault")
        );
    }

    #[test]
    fn anonymous_memory_is_read() {
        assert_eq!(anonymous("VmRSS:\t 9 kB\nRssAnon:\t   1234 kB\n"), Some(1234));
        assert!(anonymous_kib(std::process::id()).is_some());
    }
}
