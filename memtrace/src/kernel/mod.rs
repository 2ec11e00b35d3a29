//! Adapter to the kernel's information on its own memory: /proc/slabinfo, /proc/vmallocinfo, /proc/meminfo, /proc/modules;
//! and to cgroups and PID namespaces. [`machine`] joins all of it.

mod cgroup;
mod limits;
pub mod machine;
mod memory;
mod modules;
mod pid_namespace;
mod signs;
mod slabinfo;
mod vmallocinfo;

use std::{fs, io};

pub use cgroup::open_cgroup;
pub use limits::{CgroupLimit, MemoryCgroup};
pub use memory::Memory;
pub use modules::Modules;
pub use pid_namespace::pid_namespace;
pub use signs::{Pressure, machine_used};
pub use slabinfo::{Slabs, aliases, read as slabs};
pub use vmallocinfo::{Areas, read as vmalloc_areas};

/// The bytes in a line of /proc/meminfo; `None` if it is missing.
#[must_use]
pub fn meminfo(name: &str) -> Option<u64> {
    find(&fs::read_to_string("/proc/meminfo").ok()?, name)
}

fn find(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Whether the kernel shows its addresses to this process: with `kernel.kptr_restrict` it may show zeros.
#[must_use]
pub fn shows_addresses() -> bool {
    use io::BufRead as _;
    let Ok(file) = fs::File::open("/proc/kallsyms") else { return false };
    io::BufReader::new(file)
        .lines()
        .take(16)
        .map_while(Result::ok)
        .any(|line| line.split(' ').next().is_some_and(|address| address.bytes().any(|digit| digit != b'0')))
}

#[cfg(test)]
mod tests {
    use super::find;

    #[test]
    fn lines_of_meminfo_are_found_by_their_whole_name() {
        let text = "MemTotal:       24000000 kB\nPercpu:              880 kB\nPercpuX: 1 kB\nHugePages_Total:       0\n";
        assert_eq!(find(text, "Percpu"), Some(880 * 1024));
        assert_eq!(find(text, "HugePages_Total"), None);
        assert_eq!(find(text, "Per"), None);
    }
}
