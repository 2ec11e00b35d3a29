//! `tests/c/heap.c` at work.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use memtrace_tests::{CSource, Running, compile};

use super::super::take;
use crate::heap::census::{Allocator, Census, Visit};

/// What it is to do.
#[derive(Clone, Copy, Debug)]
pub(super) struct How<'a> {
    pub(super) threads: u32,
    pub(super) slots: u32,
    /// See there.
    pub(super) options: &'a [&'a str],
    pub(super) environment: &'a [(&'a str, &'a str)],
    /// Where another C library is.
    pub(super) release: Option<&'a Path>,
    /// Another allocator: jemalloc.
    pub(super) preload: Option<&'a Path>,
}

impl Default for How<'_> {
    fn default() -> Self {
        Self { threads: 4, slots: 5000, options: &[], environment: &[], release: None, preload: None }
    }
}

/// Directories with other C libraries.
pub(super) fn others() -> Vec<PathBuf> {
    let list = std::env::var_os("MEMTRACE_TEST_GLIBC").unwrap_or_default();
    std::env::split_paths(&list).filter(|path| !path.as_os_str().is_empty()).collect()
}

/// A census, and its blocks by address.
pub(super) struct Taken {
    pub(super) census: Census,
    pub(super) blocks: BTreeMap<u64, u64>,
}

/// Takes a census of a process.
pub(super) fn census(pid: u32, allocator: Allocator) -> Taken {
    let mut blocks = BTreeMap::new();
    let census = take(pid, allocator, |visit| {
        let Visit::Block(block) = visit else { return blocks.clear() };
        let before = blocks.insert(block.address, block.size);
        assert_eq!(before, None, "{block:?} was visited twice");
    });
    Taken { census: census.unwrap(), blocks }
}

/// Blocks of a program at rest.
pub(super) struct Truth {
    pub(super) blocks: BTreeMap<u64, u64>,
    /// Free bytes, and mappings and their bytes, as malloc says.
    pub(super) totals: (u64, u64, u64),
    /// Bytes in use and in caches, bytes in caches, pages of dirty and muzzy extents, as jemalloc says.
    pub(super) jemalloc: Option<[u64; 4]>,
}

/// Blocks of a program during a census.
pub(super) struct Seen {
    pub(super) always: BTreeMap<u64, u64>,
    pub(super) sometimes: BTreeSet<u64>,
}

pub(super) struct Program {
    running: Running,
    file: PathBuf,
    allocator: Allocator,
    _directory: tempfile::TempDir,
}

impl Program {
    pub(super) fn start(how: &How<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let any: &[&str] =
            &["-O2", "-DANY_GLIBC", "-nostartfiles", "-Wl,--no-as-needed", "-l:libpthread.so.0"];
        let options = if how.release.is_some() { any } else { &["-O2"] };
        let program = compile(directory.path(), "heap", CSource { file: "heap.c", options });
        let mut command = match how.release {
            Some(library) => {
                let entries = fs::read_dir(library).unwrap().map(|entry| entry.unwrap().path());
                let is_loader = |path: &PathBuf| {
                    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"ld-"))
                };
                let mut command = Command::new(entries.into_iter().find(is_loader).unwrap());
                command.arg("--library-path").arg(library).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.args([how.threads.to_string(), how.slots.to_string()]);
        command.args(how.options);
        command.envs(how.environment.iter().copied());
        if let Some(library) = how.preload {
            command.env("LD_PRELOAD", library);
        }
        let mut running = Running::spawn(&mut command);
        running.line_with("ready");
        let allocator = if how.preload.is_some() { Allocator::Jemalloc } else { Allocator::Glibc };
        Self { running, allocator, file: directory.path().join("blocks"), _directory: directory }
    }

    pub(super) fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub(super) fn census(&self) -> Taken {
        census(self.pid(), self.allocator)
    }

    pub(super) fn write(&mut self, line: &str) -> String {
        self.running.write_line(line);
        self.running.line().unwrap()
    }

    fn with_file(&mut self, what: &str) -> (String, String) {
        let answer = self.write(&format!("{what} {}", self.file.display()));
        (answer, fs::read_to_string(&self.file).unwrap())
    }

    pub(super) fn go(&mut self) {
        self.write("go");
    }

    pub(super) fn rest(&mut self) -> Truth {
        truth(&self.with_file("rest").1)
    }

    /// A child, and its blocks. Only at rest.
    pub(super) fn fork(&mut self) -> (u32, Truth) {
        let (answer, text) = self.with_file("fork");
        (answer.split(' ').next_back().unwrap().parse().unwrap(), truth(&text))
    }

    pub(super) fn end(&mut self) -> Seen {
        let text = self.with_file("end").1;
        Seen { always: blocks(&text, "L"), sometimes: blocks(&text, "M").into_keys().collect() }
    }
}

fn truth(text: &str) -> Truth {
    let totals = text.lines().find_map(|line| line.strip_prefix("T ")).unwrap();
    let numbers =
        |line: &str| -> Vec<u64> { line.split(' ').map(|number| number.parse().unwrap()).collect() };
    let totals = numbers(totals);
    let jemalloc = text.lines().find_map(|line| line.strip_prefix("J "));
    let jemalloc = jemalloc.map(|line| numbers(line).try_into().unwrap());
    Truth { blocks: blocks(text, "R"), totals: (totals[0], totals[1], totals[2]), jemalloc }
}

fn blocks(text: &str, kind: &str) -> BTreeMap<u64, u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(kind)?.strip_prefix(' ')?.split_once(' '));
    lines.map(|(address, size)| (u64::from_str_radix(address, 16).unwrap(), size.parse().unwrap())).collect()
}
