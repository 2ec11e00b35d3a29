//! The kernel's log, and settings that decide how long its reports take.

use std::{
    fs::OpenOptions,
    io::{ErrorKind, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    time::Duration,
};

use super::file::Roots;
use crate::profile::machine::{LogLine, SlowReport};

/// Lines that are read: the buffer has 16 MiB at most where someone made it larger.
const MAX_LINES: usize = 1 << 18;
/// Bytes of a record: `PRINTKRB_RECORD_MAX` and `CONSOLE_EXT_LOG_MAX` (kernel/printk/printk.c) are 8 KiB at most.
const RECORD: usize = 8192;
/// From this level of the console on, the lines of an OOM report are printed there (`KERN_WARNING` is 4).
const PRINTED: u32 = 5;
/// Names of serial consoles begin so.
const SERIAL: [&str; 5] = ["ttyS", "ttyAMA", "ttyUSB", "ttyPS", "ttymxc"];

/// What the kernel has said since boot, and whether the beginning is gone; `None` if it cannot be read. Lines that programs
/// wrote there are left out.
#[must_use]
pub fn read_log(path: &Path) -> Option<(Vec<LogLine>, bool)> {
    let mut file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).ok()?;
    let (mut lines, mut is_cut, mut is_first) = (Vec::new(), false, true);
    let mut buffer = vec![0; RECORD];
    while lines.len() < MAX_LINES {
        let length = match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            // The record was overwritten while the ones before were read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                is_cut = true;
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) if is_first => return None,
            Err(_) => break,
        };
        let record = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
        let Some((facility, number, line)) = parse(&record) else { continue };
        is_cut |= is_first && number > 0;
        is_first = false;
        if facility == 0 {
            lines.push(line);
        }
    }
    Some((lines, is_cut))
}

/// `priority,number,microseconds,flags…;text`, then lines with keys. Returns facility, number and line.
fn parse(record: &str) -> Option<(u32, u64, LogLine)> {
    let (head, text) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let number = fields.next()?.parse().ok()?;
    let at = Duration::from_micros(fields.next()?.parse().ok()?);
    let text = text.lines().next().unwrap_or_default().to_owned();
    Some((priority >> 3, number, LogLine { at, text }))
}

/// Settings that make a report of the OOM killer slow, for a machine with so many processes.
#[must_use]
pub fn slow_reports(roots: &Roots, processes: u64) -> Vec<SlowReport> {
    let mut found = Vec::new();
    if roots.proc_number("sys/vm/oom_dump_tasks").is_some_and(|number| number != 0) {
        found.push(SlowReport::DumpTasks(processes));
    }
    let levels = roots.proc("sys/kernel/printk", 256).unwrap_or_default();
    let level = levels.split_ascii_whitespace().next().and_then(|level| level.parse::<u32>().ok());
    let consoles = roots.proc("consoles", 64 << 10).unwrap_or_default();
    let serial = consoles.lines().find_map(|line| {
        let name = line.split_ascii_whitespace().next()?;
        let is_enabled = line.split_once('(').is_some_and(|(_, flags)| flags.starts_with('E'));
        (is_enabled && SERIAL.iter().any(|serial| name.starts_with(serial))).then(|| name.to_owned())
    });
    if let Some((level, console)) = level.filter(|level| *level >= PRINTED).zip(serial) {
        found.push(SlowReport::SerialConsole(level, console));
    }
    found
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use super::{parse, slow_reports};
    use crate::{
        kernel::machine::Roots,
        profile::machine::{LogLine, SlowReport},
    };

    #[test]
    fn records_are_taken_apart() {
        let line = LogLine { at: Duration::from_micros(5_140_900), text: "Out of memory; x".to_owned() };
        let record = "3,339,5140900,-,caller=T1;Out of memory; x\n SUBSYSTEM=acpi\n";
        assert_eq!(parse(record), Some((0, 339, line)));
        assert_eq!(parse("12,7,1,-;written by a program\n").map(|(facility, ..)| facility), Some(1));
        assert_eq!(parse("damaged"), None);
        assert_eq!(parse("1,x,2;text"), None);
    }

    #[test]
    fn slow_settings_are_named() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        fs::create_dir_all(root.join("sys/vm")).unwrap();
        fs::create_dir_all(root.join("sys/kernel")).unwrap();
        fs::write(root.join("sys/vm/oom_dump_tasks"), "1\n").unwrap();
        fs::write(root.join("sys/kernel/printk"), "7\t4\t1\t7\n").unwrap();
        fs::write(root.join("consoles"), "tty0 -WU (EC  p  )  4:1\nttyS0 -W- (E   p a)  4:64\n").unwrap();
        let roots = Roots { proc: root.into(), sys: root.into() };
        let expected = vec![SlowReport::DumpTasks(12), SlowReport::SerialConsole(7, "ttyS0".to_owned())];
        assert_eq!(slow_reports(&roots, 12), expected);
        fs::write(root.join("sys/kernel/printk"), "4\t4\t1\t7\n").unwrap();
        fs::write(root.join("sys/vm/oom_dump_tasks"), "0\n").unwrap();
        assert_eq!(slow_reports(&roots, 12), []);
    }
}
