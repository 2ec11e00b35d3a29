//! What /proc says of a process.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
};

/// The state letter of a process, `Z` for a zombie; `None` when it is gone.
#[must_use]
pub fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// Where the code of a process's C library lies in its memory: start and end.
///
/// # Panics
/// If it has none.
#[must_use]
pub fn libc_range(pid: u32) -> (u64, u64) {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("the mappings of the target");
    let line = maps
        .lines()
        .find(|line| line.contains(" r-xp ") && line.contains("/libc.so"))
        .unwrap_or_else(|| panic!("no libc in\n{maps}"));
    let range = line.split(' ').next().unwrap_or_default();
    let (start, end) = range.split_once('-').expect("a range of addresses");
    let address = |text| u64::from_str_radix(text, 16).expect("an address");
    (address(start), address(end))
}

/// The machine code of a process's C library, as it is in its memory now.
///
/// # Panics
/// If it cannot be read.
#[must_use]
pub fn libc_code(pid: u32) -> Vec<u8> {
    let (start, end) = libc_range(pid);
    let mut code = vec![0; (end - start) as usize];
    let memory = File::open(format!("/proc/{pid}/mem")).expect("the memory of the target");
    memory.read_exact_at(&mut code, start).expect("the code of the target");
    code
}

/// The children of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let children = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    children
        .flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// A field of a process's `status`.
#[must_use]
pub fn status(pid: u32, field: &str) -> Option<String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let value = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    Some(value.trim().to_owned())
}

/// What a process's descriptors refer to.
///
/// # Panics
/// If they cannot be read.
#[must_use]
pub fn open_files(pid: u32) -> Vec<String> {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let names = files.filter_map(|file| fs::read_link(file.path()).ok());
    names.map(|name| name.to_string_lossy().into_owned()).collect()
}
